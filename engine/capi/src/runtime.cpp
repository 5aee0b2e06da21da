#include "runtime.hpp"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <cstring>
#include <map>

#include <dlfcn.h>

#include "failure.hpp"

namespace pnp {

namespace {

constexpr int LEAST_MINOR = 20;  // of version 1: earlier wheels have no library of their own
constexpr int WARNING = 2;       // severity of a message

const char *const DEFAULT_NAME =
#ifdef __APPLE__
    "libonnxruntime.dylib";
#else
    "libonnxruntime.so.1";
#endif

const char *const GET_IT = "install ONNX Runtime 1.20 or newer (pip install onnxruntime), and give the path of its"
                           " libonnxruntime.so.* in the options or in PNP_OVSS_ORT";

Failure no_runtime(const Words &cause) { return {PNP_OVSS_NO_RUNTIME, cause, GET_IT}; }

// Tells whether a version, such as "1.32.0", is new enough.
bool is_new_enough(const std::string &version) {
    char *end = nullptr;
    const long major = std::strtol(version.c_str(), &end, 10);
    if (end == version.c_str() || *end != '.' || !std::isdigit(static_cast<unsigned char>(end[1]))) return false;
    return major > 1 || (major == 1 && std::strtol(end + 1, nullptr, 10) >= LEAST_MINOR);
}

// A library that was loaded, and the table of its functions.
struct Loaded {
    const pnp_ort_api_base *base;
    const void *const *table;
    std::string version;
};

Loaded load_library(const std::string &path, const char *source) {
    ::setenv("ORT_DISABLE_TELEMETRY", "1", 0);  // it is read when the library is loaded
    void *library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char *error = ::dlerror();
        throw no_runtime({"ONNX Runtime cannot be loaded, by the path of ", source, ": ",
                          error ? error : path.c_str()});
    }
    void *entry = ::dlsym(library, PNP_ORT_ENTRY);
    if (!entry) {
        ::dlclose(library);
        throw no_runtime({"'", path, "' is no ONNX Runtime with a C interface: it has no " PNP_ORT_ENTRY});
    }
    using Entry = const pnp_ort_api_base *(*)();
    Entry function;
    std::memcpy(&function, &entry, sizeof function);
    const pnp_ort_api_base *base = function();
    const char *told = base ? base->get_version() : nullptr;
    const std::string version = told ? told : "";
    if (!is_new_enough(version))
        throw no_runtime({"'", path, "' is ONNX Runtime ", quoted(version), ", and 1.20 is the least"});
    const void *const *table = base->get_api(PNP_ORT_API);
    if (!table) throw no_runtime({"'", path, "', ONNX Runtime ", version, ", has no C interface of version 18"});
    return {base, table, version};
}

// Where the library is, and who says so.
struct Place {
    std::string path;
    const char *source;
};

Place place_of(const pnp_ovss_runtime_options &options) {
    if (options.path && *options.path) return {options.path, "the options"};
    const char *given = std::getenv("PNP_OVSS_ORT");
    if (given && *given) return {given, "PNP_OVSS_ORT"};
    return {DEFAULT_NAME, "this library"};
}

int severity_of(const pnp_ovss_runtime_options &options) {
    if (options.log_severity < PNP_OVSS_ZERO || options.log_severity > 4)
        throw bad_input({"log_severity is ", options.log_severity}, "it must be PNP_OVSS_ZERO, or from 0 to 4");
    if (options.log_severity == 0) return WARNING;
    return options.log_severity == PNP_OVSS_ZERO ? 0 : options.log_severity;
}

// The runtimes of this process. It is never destroyed: threads may use them while the process ends.
struct Registry {
    std::mutex mutex;
    std::map<const pnp_ort_api_base *, std::unique_ptr<Runtime>> runtimes;

    static Registry &shared() {
        static Registry *registry = new Registry;
        return *registry;
    }
};

bool tells(const std::string &message, std::initializer_list<const char *> parts) {
    for (const char *part : parts)
        if (message.find(part) != std::string::npos) return true;
    return false;
}

}  // namespace

Ort::Ort(const void *const *table) {
#define PNP_ORT_LOOK_UP(place, result, name, arguments) std::memcpy(&name, &table[place], sizeof name);
    PNP_ORT_FUNCTIONS(PNP_ORT_LOOK_UP)
#undef PNP_ORT_LOOK_UP
}

void Ort::check(pnp_ort_status *status, int32_t code, const Words &doing, const char *cure) const {
    if (!status) return;
    const std::unique_ptr<pnp_ort_status, void (*)(pnp_ort_status *)> freed(status, release_status);
    const std::string what = doing.joined();
    const char *told = get_error_message(status);
    std::string message = told ? told : "";
    message = message.substr(0, message.find_first_of("\r\n"));
    if (tells(message, {"bad_alloc", "bad allocation", "Failed to allocate memory", "pthread_create",
                        "Resource temporarily unavailable"}))
        throw Failure(PNP_OVSS_NO_MEMORY, {what, ": there is not enough memory, or no thread left: ", message},
                      "raise the limits of the process, or take fewer threads");
    throw Failure(code, {what, ": ", message}, cure);
}

Runtime &Runtime::load(const std::string &path, const char *source, int severity) {
    Registry &registry = Registry::shared();
    const std::lock_guard<std::mutex> lock(registry.mutex);
    const Loaded loaded = load_library(path, source);
    auto &place = registry.runtimes[loaded.base];
    if (!place) place = std::make_unique<Runtime>(loaded.table, loaded.version);
    place->start(severity);
    return *place;
}

// Makes the environment, of which a library has one.
void Runtime::start(int severity) {
    if (!env_)
        ort_.check(ort_.create_env_with_custom_logger(hear, this, severity, "pnp_ovss", &env_), PNP_OVSS_NO_RUNTIME,
                   {"ONNX Runtime ", version_, " cannot start"}, GET_IT);
    ort_.check(ort_.disable_telemetry_events(env_), PNP_OVSS_NO_RUNTIME,
               {"ONNX Runtime ", version_, " cannot be kept from reporting"}, GET_IT);
}

void Runtime::add(const pnp_ovss_runtime *listener) {
    const std::lock_guard<std::mutex> lock(mutex_);
    listeners_.push_back(listener);
}

void Runtime::remove(const pnp_ovss_runtime *listener) {
    const std::lock_guard<std::mutex> lock(mutex_);
    listeners_.erase(std::remove(listeners_.begin(), listeners_.end(), listener), listeners_.end());
}

void Runtime::hear(void *runtime, int severity, const char *, const char *, const char *, const char *message) {
    auto *self = static_cast<Runtime *>(runtime);
    const std::lock_guard<std::mutex> lock(self->mutex_);
    for (const pnp_ovss_runtime *listener : self->listeners_)
        listener->log(listener->user, severity, message ? message : "");
}

}  // namespace pnp

namespace {

pnp::Runtime &opened(const pnp_ovss_runtime_options &options) {
    const pnp::Place place = pnp::place_of(options);
    return pnp::Runtime::load(place.path, place.source, pnp::severity_of(options));
}

}  // namespace

pnp_ovss_runtime::pnp_ovss_runtime(const pnp_ovss_runtime_options &options)
    : loaded(opened(options)), log(options.log), user(options.user) {
    if (log) loaded.add(this);
}

pnp_ovss_runtime::~pnp_ovss_runtime() { loaded.remove(this); }
