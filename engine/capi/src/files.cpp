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

const char *const AGAIN = "the folder is damaged: export or copy it again";
const char *const DEPLOY = "open the model again; to replace a model that is in use, write another folder, turn a link"
                           " to it (ln -sfn), and keep the old one while it is in use";

#ifdef __APPLE__
timespec modified(const struct stat &found) { return found.st_mtimespec; }
#else
timespec modified(const struct stat &found) { return found.st_mtim; }
#endif

std::string reason(int error) {
    char text[128] = "";
#if defined(__GLIBC__) && defined(_GNU_SOURCE)
    return strerror_r(error, text, sizeof text);
#else
    return strerror_r(error, text, sizeof text) == 0 ? text : "error " + std::to_string(error);
#endif
}

Failure unreadable(const std::string &path, int error) {
    if (error == ENOENT || error == ENOTDIR) return bad_model({"model file '", path, "' is missing"}, AGAIN);
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

// Returns the state of an open file, which must be a regular one: others may have no end.
struct stat state_of(int descriptor, const std::string &path) {
    struct stat found;
    if (::fstat(descriptor, &found) != 0) throw unreadable(path, errno);
    if (!S_ISREG(found.st_mode)) throw bad_model({"model file '", path, "' is no regular file"}, AGAIN);
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
    state_of(file.number(), path);
    std::string out;
    read_blocks(file.number(), path, [&](const char *data, size_t bytes) {
        if (out.size() + bytes > most)
            throw bad_model({"model file '", path, "' has more than ", most, " bytes"}, AGAIN);
        out.append(data, bytes);
    });
    return out;
}

ModelFiles::ModelFiles(const std::string &folder, const std::map<std::string, FileRecord> &records, bool verify) {
    open_.reserve(records.size());
    try {
        for (const auto &[name, record] : records) add(folder, name, record, verify);
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

void ModelFiles::add(const std::string &folder, const std::string &name, const FileRecord &record, bool verify) {
    const std::string path = folder + "/" + name;
    Descriptor file(path);
    const struct stat found = state_of(file.number(), path);
    if (uint64_t(found.st_size) != record.size)
        throw bad_model({"model file '", path, "' has ", found.st_size, " bytes instead of ", record.size}, AGAIN);
    if (verify && sha256_of(file.number(), path) != record.sha256)
        throw bad_model({"model file '", path, "' was changed: its sha256 is not the manifest's"}, AGAIN);
    open_.push_back({name, path, -1, found.st_dev, found.st_ino, found.st_size, modified(found)});
    open_.back().descriptor = file.release();
}

void ModelFiles::require_unwritten() const {
    for (const Open &file : open_) {
        struct stat found;
        if (::fstat(file.descriptor, &found) != 0) throw unreadable(file.path, errno);
        const timespec now = modified(found);
        if (found.st_size != file.size || now.tv_sec != file.modified.tv_sec || now.tv_nsec != file.modified.tv_nsec)
            throw bad_model({"model file '", file.path, "' was written to while the model was in use"}, DEPLOY);
    }
}

void ModelFiles::require_same(const std::string &name) const {
    for (const Open &file : open_) {
        if (file.name != name) continue;
        struct stat found;
        if (::stat(file.path.c_str(), &found) != 0)
            throw bad_model({"model file '", file.path, "' was removed since the model was opened"}, DEPLOY);
        if (found.st_dev != file.device || found.st_ino != file.inode)
            throw bad_model({"model file '", file.path, "' was replaced since the model was opened"}, DEPLOY);
    }
}

}  // namespace pnp
