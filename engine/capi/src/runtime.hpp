// ONNX Runtime, loaded into this process while it runs; it is never linked, and never unloaded.
#pragma once

#include <memory>
#include <mutex>
#include <string>

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

}  // namespace pnp

// A loaded library of ONNX Runtime and its environment. It lives as long as the process.
struct pnp_ovss_runtime {
public:
    pnp_ovss_runtime(const void *const *table, std::string version) : ort_(table), version_(std::move(version)) {}

    // Returns the runtime of the options, opened once more. Throws a Failure.
    static pnp_ovss_runtime *open(const pnp_ovss_runtime_options &options);
    void close();

    const pnp::Ort &ort() const { return ort_; }
    const pnp_ort_env *env() const { return env_; }
    const std::string &version() const { return version_; }

private:
    static void hear(void *runtime, int severity, const char *category, const char *id, const char *place,
                     const char *message);
    void start(const pnp_ovss_runtime_options &options);

    pnp::Ort ort_;
    std::string version_;
    pnp_ort_env *env_ = nullptr;
    int opened_ = 0;

    std::mutex log_mutex_;
    pnp_ovss_log log_ = nullptr;
    void *user_ = nullptr;
};
