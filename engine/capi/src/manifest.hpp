// manifest.json of a model folder, as far as this library needs it; engine/model/README.md describes it all.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "captions.hpp"
#include "settings.hpp"

namespace pnp {

// How an image becomes the input of the image encoder.
struct Preprocess {
    int height = 0, width = 0, patch = 0;  // in pixels
    std::array<float, 3> mean = {}, std = {};

    int grid_height() const { return height / patch; }
    int grid_width() const { return width / patch; }
    int patches() const { return grid_height() * grid_width(); }
};

struct FileRecord {
    uint64_t size = 0;
    std::string sha256;
};

struct Manifest {
    std::string family;
    Preprocess preprocess;
    Text text;
    Settings settings;
    int width = 0;                             // D, of the image embeddings
    std::string vision, salience;              // paths of the graphs from the folder
    std::string vision_tokens;                 // "" where there is none
    std::map<std::string, FileRecord> files;   // by path from the folder
    std::vector<std::string> classes;          // the only names that the model knows; empty where it takes any

    // Reads a manifest. Throws a Failure, which calls the folder by `folder`.
    static Manifest read(const std::string &text, const std::string &folder);
};

}  // namespace pnp
