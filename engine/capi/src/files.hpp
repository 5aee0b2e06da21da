// The files of a model folder, checked against its manifest and held open.
#pragma once

#include <mutex>
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

    // Throws a Failure where somebody changed the contents of a file since it was opened.
    void require_unwritten() const;

    // Throws a Failure where the file of a path is not the one that is open: whoever opens it by its path between two
    // calls has read what was verified.
    void require_same(const std::string &name) const;

private:
    // What the system tells of a file without reading it.
    struct State {
        dev_t device;
        ino_t inode;
        off_t size;
        timespec modified, changed;
    };
    struct Open {
        std::string name, path, sha256;
        int descriptor;
        State state;
    };

    static State state_of(int descriptor, const std::string &path);
    void add(const std::string &folder, const std::string &name, const FileRecord &record);
    void close();

    bool verify_;
    mutable std::mutex mutex_;  // of the states
    mutable std::vector<Open> open_;
};

}  // namespace pnp
