// Records, when it is preloaded, what a process and its children look up and write.
//
// Each line of the file RECORD is a look-up ("lookup NAME", "connect FAMILY") or a path that is made
// or opened for writing ("write PATH"). The C library is called as before.
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

namespace {

template <class Function>
Function next(const char *name) {
    return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

int open_record() {
    static const auto real = next<int (*)(const char *, int, ...)>("open");
    const char *path = getenv("RECORD");
    return path ? real(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
}

void record(const char *what, const char *name) {
    const int file = open_record();
    if (file < 0) return;
    char line[5000];
    const int length = snprintf(line, sizeof line, "%s %s\n", what, name ? name : "");
    if (write(file, line, length) < 0) abort();
    close(file);
}

void record_open(const char *path, int flags) {
    if (flags & (O_CREAT | O_TRUNC | O_WRONLY | O_RDWR)) record("write", path);
}

mode_t mode_of(int flags, va_list arguments) {
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, unsigned) : 0;
}

}  // namespace

extern "C" {

#define OPEN(name)                                              \
    int name(const char *path, int flags, ...) {                \
        va_list arguments;                                      \
        va_start(arguments, flags);                             \
        const mode_t mode = mode_of(flags, arguments);          \
        va_end(arguments);                                      \
        record_open(path, flags);                               \
        return next<int (*)(const char *, int, ...)>(#name)(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                            \
    int name(int folder, const char *path, int flags, ...) {    \
        va_list arguments;                                      \
        va_start(arguments, flags);                             \
        const mode_t mode = mode_of(flags, arguments);          \
        va_end(arguments);                                      \
        record_open(path, flags);                               \
        return next<int (*)(int, const char *, int, ...)>(#name)(folder, path, flags, mode); \
    }
OPENAT(openat)
OPENAT(openat64)

#define FOPEN(name)                                             \
    FILE *name(const char *path, const char *mode) {            \
        if (strpbrk(mode, "wa+")) record("write", path);        \
        return next<FILE *(*)(const char *, const char *)>(#name)(path, mode); \
    }
FOPEN(fopen)
FOPEN(fopen64)

int mkdir(const char *path, mode_t mode) {
    record("write", path);
    return next<int (*)(const char *, mode_t)>("mkdir")(path, mode);
}

int getaddrinfo(const char *node, const char *service, const addrinfo *hints, addrinfo **found) {
    record("lookup", node);
    return next<decltype(&getaddrinfo)>("getaddrinfo")(node, service, hints, found);
}

hostent *gethostbyname(const char *name) {
    record("lookup", name);
    return next<decltype(&gethostbyname)>("gethostbyname")(name);
}

int connect(int socket, const sockaddr *address, socklen_t length) {
    if (address->sa_family == AF_INET || address->sa_family == AF_INET6) record("connect", "inet");
    return next<decltype(&connect)>("connect")(socket, address, length);
}

}  // extern "C"
