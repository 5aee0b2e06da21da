// The files of a model folder, checked against its manifest and held open.
#pragma once

#include <string>
#include <vector>

#include <sys/types.h>
#include <time.h>

#include "manifest.hpp"

namespace pnp {

// Reads a regular file of up to `most` bytes whole. Throws a Failure.
std::string read_file(const std::string &path, size_t most);

// ONNX Runtime maps weights into memory and reads them while it runs, so a file that is written to in the meantime
// would change results in silence. A folder that is replaced by renaming does no harm to what is open.
class ModelFiles {
public:
    // Opens the files. Throws a Failure where one is missing, or is not what its record says: by its size, and with
    // `verify` by its sha256.
    ModelFiles(const std::string &folder, const std::map<std::string, FileRecord> &records, bool verify);
    ~ModelFiles();
    ModelFiles(const ModelFiles &) = delete;

    // Throws a Failure where somebody wrote to a file since it was opened.
    void require_unwritten() const;

    // Throws a Failure where the file of a path is not the one that is open: whoever opens it by its path between two
    // calls has read what was verified.
    void require_same(const std::string &name) const;

private:
    struct Open {
        std::string name, path;
        int descriptor;
        dev_t device;
        ino_t inode;
        off_t size;
        timespec modified;
    };

    void add(const std::string &folder, const std::string &name, const FileRecord &record, bool verify);
    void close();

    std::vector<Open> open_;
};

}  // namespace pnp
