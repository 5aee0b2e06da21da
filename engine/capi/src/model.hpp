// A model folder, loaded: its manifest, its files, its captioner and its graphs.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "captions.hpp"
#include "files.hpp"
#include "manifest.hpp"
#include "session.hpp"

namespace pnp {

struct ModelOptions {
    int threads = 0;  // 0: one for each processor
    std::string device = "cpu";
    bool verify = true, prepack = false;

    // Reads the options of a caller, which may be null. Throws a Failure.
    static ModelOptions read(const pnp_ovss_model_options *given);
};

}  // namespace pnp

struct pnp_ovss_model {
public:
    // Opens a folder; without a runtime no graph is loaded. Throws a Failure.
    pnp_ovss_model(const pnp::Runtime *runtime, const std::string &folder, const pnp::ModelOptions &options);

    const pnp::Manifest &manifest() const { return manifest_; }
    const pnp::Captioner &captioner() const { return captioner_; }
    const pnp::ModelFiles &files() const { return files_; }
    const std::string &device() const { return device_; }  // "cpu", "cuda:0"; "" where no graph is loaded
    int threads() const { return threads_; }               // that a call may use, from 1

    // Returns the runtime. Throws a Failure where the model was opened without one.
    const pnp::Runtime &runtime() const;

    const pnp::Session &vision() const { return *vision_; }
    const pnp::Session &salience() const { return *salience_; }

    // Returns the image encoder on some of the patches, which is loaded when it is first asked for. Throws a Failure.
    const pnp::Session &vision_tokens() const;

private:
    std::unique_ptr<pnp::Session> load(const std::string &graph) const;

    std::string folder_;
    pnp::Manifest manifest_;
    pnp::ModelFiles files_;
    pnp::Captioner captioner_;
    const pnp::Runtime *runtime_;
    std::string device_;
    int threads_;
    pnp::SessionOptions session_options_;
    std::unique_ptr<const pnp::Session> vision_, salience_;
    mutable std::mutex mutex_;  // of what is loaded later
    mutable std::unique_ptr<const pnp::Session> vision_tokens_;
};
