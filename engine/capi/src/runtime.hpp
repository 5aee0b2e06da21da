// ONNX Runtime, loaded into this process while it runs; it is never linked, and never unloaded.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "failure.hpp"
#include "ort_abi.h"
#include "pnp_ovss.h"

namespace pnp {

// The functions of ONNX Runtime that are used here.
struct Ort {
#define PNP_ORT_MEMBER(place, result, name, arguments) result(*name) arguments;
    PNP_ORT_FUNCTIONS(PNP_ORT_MEMBER)
#undef PNP_ORT_MEMBER

    explicit Ort(const void *const *table);

    // Frees a status, and throws what it tells of what was done: NO_MEMORY where memory or threads ran out, else
    // `code`. Null is none.
    void check(pnp_ort_status *status, int32_t code, const Words &doing, const char *cure) const;
};

// A loaded library of ONNX Runtime and its environment. It lives as long as the process.
class Runtime {
public:
    Runtime(const void *const *table, std::string version) : ort_(table), version_(std::move(version)) {}

    // Loads a library, or returns it where it is loaded already. Throws a Failure, which tells the source of the path.
    static Runtime &load(const std::string &path, const char *source, int severity);

    // Tells the messages to whoever opened the runtime, until it closes it.
    void add(const pnp_ovss_runtime *listener);
    void remove(const pnp_ovss_runtime *listener);

    const Ort &ort() const { return ort_; }
    const pnp_ort_env *env() const { return env_; }
    const std::string &version() const { return version_; }

private:
    static void hear(void *runtime, int severity, const char *category, const char *id, const char *place,
                     const char *message);
    void start(int severity);

    Ort ort_;
    std::string version_;
    pnp_ort_env *env_ = nullptr;

    std::mutex mutex_;
    std::vector<const pnp_ovss_runtime *> listeners_;
};

}  // namespace pnp

// What one open of a runtime gave.
struct pnp_ovss_runtime {
public:
    explicit pnp_ovss_runtime(const pnp_ovss_runtime_options &options);
    ~pnp_ovss_runtime();
    pnp_ovss_runtime(const pnp_ovss_runtime &) = delete;

    pnp::Runtime &loaded;
    const pnp_ovss_log log;
    void *const user;
};
