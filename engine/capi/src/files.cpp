#include "files.hpp"

#include <cerrno>
#include <cstring>
#include <memory>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "failure.hpp"
#include "sha256.hpp"

namespace pnp {

namespace {

constexpr size_t BLOCK = size_t(1) << 18;  // bytes read at a time

const char *const DEPLOY = "open the model again; to replace a model that is in use, write another folder, turn a link"
                           " to it (ln -sfn), and keep the old one while it is in use";

#ifdef __APPLE__
#define PNP_TIME(found, which) (found).st_##which##timespec
#else
#define PNP_TIME(found, which) (found).st_##which##tim
#endif

bool is_same(const timespec &one, const timespec &other) {
    return one.tv_sec == other.tv_sec && one.tv_nsec == other.tv_nsec;
}

std::string reason(int error) {
    char text[128] = "";
#if defined(__GLIBC__) && defined(_GNU_SOURCE)
    return strerror_r(error, text, sizeof text);
#else
    return strerror_r(error, text, sizeof text) == 0 ? text : "error " + std::to_string(error);
#endif
}

Failure unreadable(const std::string &path, int error) {
    if (error == ENOENT || error == ENOTDIR) return bad_model({"model file '", path, "' is missing"}, COPY_AGAIN);
    return bad_model({"model file '", path, "' cannot be read: ", reason(error)}, "check its permissions");
}

// Opens a file without waiting for a pipe, and closes it at the end.
class Descriptor {
public:
    explicit Descriptor(const std::string &path)
        : number_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
        if (number_ < 0) throw unreadable(path, errno);
    }
    ~Descriptor() {
        if (number_ >= 0) ::close(number_);
    }
    Descriptor(const Descriptor &) = delete;

    int number() const { return number_; }
    int release() {
        const int number = number_;
        number_ = -1;
        return number;
    }

private:
    int number_;
};

// Returns what the system tells of an open file, which must be a regular one: others may have no end.
struct stat require_regular(int descriptor, const std::string &path) {
    struct stat found;
    if (::fstat(descriptor, &found) != 0) throw unreadable(path, errno);
    if (!S_ISREG(found.st_mode)) throw bad_model({"model file '", path, "' is no regular file"}, COPY_AGAIN);
    return found;
}

// Reads a file block by block, from its start: use(data, bytes).
template <class Use>
void read_blocks(int descriptor, const std::string &path, const Use &use) {
    const std::unique_ptr<char[]> block(new char[BLOCK]);
    for (off_t place = 0;;) {
        const ssize_t bytes = ::pread(descriptor, block.get(), BLOCK, place);
        if (bytes < 0 && errno == EINTR) continue;
        if (bytes < 0) throw unreadable(path, errno);
        if (bytes == 0) return;
        use(block.get(), size_t(bytes));
        place += bytes;
    }
}

std::string sha256_of(int descriptor, const std::string &path) {
    Sha256 digest;
    read_blocks(descriptor, path, [&](const char *data, size_t bytes) {
        digest.update(reinterpret_cast<const uint8_t *>(data), bytes);
    });
    return digest.hex();
}

}  // namespace

std::string read_file(const std::string &path, size_t most) {
    const Descriptor file(path);
    require_regular(file.number(), path);
    std::string out;
    read_blocks(file.number(), path, [&](const char *data, size_t bytes) {
        if (out.size() + bytes > most)
            throw bad_model({"model file '", path, "' has more than ", most, " bytes"}, COPY_AGAIN);
        out.append(data, bytes);
    });
    return out;
}

ModelFiles::ModelFiles(const std::string &folder, const std::map<std::string, FileRecord> &records, bool verify)
    : verify_(verify) {
    open_.reserve(records.size());
    try {
        for (const auto &[name, record] : records) add(folder, name, record);
    } catch (...) {
        close();
        throw;
    }
}

ModelFiles::~ModelFiles() { close(); }

void ModelFiles::close() {
    for (const Open &file : open_) ::close(file.descriptor);
    open_.clear();
}

ModelFiles::State ModelFiles::state_of(int descriptor, const std::string &path) {
    const struct stat found = require_regular(descriptor, path);
    return {found.st_dev, found.st_ino, found.st_size, PNP_TIME(found, m), PNP_TIME(found, c)};
}

void ModelFiles::add(const std::string &folder, const std::string &name, const FileRecord &record) {
    const std::string path = folder + "/" + name;
    Descriptor file(path);
    const State state = state_of(file.number(), path);
    if (uint64_t(state.size) != record.size)
        throw bad_model({"model file '", path, "' has ", state.size, " bytes instead of ", record.size}, COPY_AGAIN);
    if (verify_ && sha256_of(file.number(), path) != record.sha256)
        throw bad_model({"model file '", path, "' was changed: its sha256 is not the manifest's"}, COPY_AGAIN);
    open_.push_back({name, path, record.sha256, -1, state});
    open_.back().descriptor = file.release();
}

// Times change, too, where a file gets another name or is touched; only what is in it counts.
void ModelFiles::require_unwritten() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (Open &file : open_) {
        const State now = state_of(file.descriptor, file.path);
        const bool modified = now.size != file.state.size || !is_same(now.modified, file.state.modified);
        if (!modified && is_same(now.changed, file.state.changed)) continue;
        const bool same = verify_ ? sha256_of(file.descriptor, file.path) == file.sha256 : !modified;
        if (!same)
            throw bad_model({"model file '", file.path, "' was written to while the model was in use"}, DEPLOY);
        file.state = now;
    }
}

void ModelFiles::require_same(const std::string &name) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const Open &file : open_) {
        if (file.name != name) continue;
        struct stat found;
        if (::stat(file.path.c_str(), &found) != 0)
            throw bad_model({"model file '", file.path, "' was removed since the model was opened"}, DEPLOY);
        if (found.st_dev != file.state.device || found.st_ino != file.state.inode)
            throw bad_model({"model file '", file.path, "' was replaced since the model was opened"}, DEPLOY);
    }
}

}  // namespace pnp
