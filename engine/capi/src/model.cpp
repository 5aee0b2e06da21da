#include "model.hpp"

#include <cstdlib>
#include <thread>

#ifdef __linux__
#include <sched.h>
#endif

#include "structs.hpp"

namespace pnp {

namespace {

constexpr size_t LARGEST_MANIFEST = size_t(16) << 20, LARGEST_TOKENIZER = size_t(64) << 20;  // bytes

// Counts the processors that this process may use.
int processors() {
#ifdef __linux__
    cpu_set_t set;
    if (::sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
    return std::max(1, int(std::thread::hardware_concurrency()));
}

// Returns the number of the GPU that a device names; -1 for the CPU. Throws a Failure.
int gpu_of(const std::string &device) {
    if (device == "cpu") return -1;
    if (device == "cuda") return 0;
    const std::string number = device.compare(0, 5, "cuda:") == 0 ? device.substr(5) : "";
    const bool digits = number.find_first_not_of("0123456789") == std::string::npos;
    if (number.empty() || number.size() > 3 || !digits)
        throw bad_input({"unknown device ", quoted(device)}, "the devices are: cpu, cuda, cuda:N");
    return std::atoi(number.c_str());
}

// Follows links once, so that all files are of one model even if a link is turned to another model meanwhile.
std::string resolved(const std::string &folder) {
    const std::unique_ptr<char, void (*)(void *)> path(::realpath(folder.c_str(), nullptr), std::free);
    return path ? path.get() : folder;
}

Manifest read_manifest(const std::string &folder) {
    std::string text;
    try {
        text = read_file(folder + "/manifest.json", LARGEST_MANIFEST);
    } catch (const Failure &failure) {
        throw bad_model({"'", folder, "' is not a model folder: ", failure.cause},
                        "check the path, or make one with: pnp-ovss export CHECKPOINT -o DIR");
    }
    return Manifest::read(text, folder);
}

Captioner read_captioner(const std::string &folder, const Manifest &manifest, const ModelFiles &files) {
    const std::string path = folder + "/tokenizer.json";
    const std::string text = read_file(path, LARGEST_TOKENIZER);
    files.require_same("tokenizer.json");
    try {
        return Captioner(WordPiece::read(Json::parse(text)), manifest.text, manifest.classes);
    } catch (const JsonError &error) {
        throw bad_model({"'", path, "' cannot be used: ", error.what()}, "export the model again");
    }
}

}  // namespace

ModelOptions ModelOptions::read(const pnp_ovss_model_options *given) {
    ModelOptions out;
    if (!given) return out;
    constexpr size_t FIRST_SIZE = offsetof(pnp_ovss_model_options, prepack) + sizeof(int32_t);
    const auto options = read_struct(given, FIRST_SIZE, "pnp_ovss_model_options");
    const auto flag = [](int32_t value, const char *name, bool usual) {
        if (value != 0 && value != PNP_OVSS_YES && value != PNP_OVSS_NO)
            throw bad_input({name, " is ", value}, "it must be 0, PNP_OVSS_YES or PNP_OVSS_NO");
        return value == 0 ? usual : value == PNP_OVSS_YES;
    };
    if (options.threads < 0 || options.threads > 1024)
        throw bad_input({"threads is ", options.threads}, "it must be 0, or a whole number up to 1024");
    out.threads = options.threads;
    if (options.device) out.device = options.device;
    out.verify = flag(options.verify, "verify", true);
    out.prepack = flag(options.prepack, "prepack", false);
    return out;
}

}  // namespace pnp

using namespace pnp;

pnp_ovss_model::pnp_ovss_model(const Runtime *runtime, const std::string &folder, const ModelOptions &options)
    : folder_(resolved(folder)), manifest_(read_manifest(folder_)),
      files_(folder_, manifest_.files, options.verify), captioner_(read_captioner(folder_, manifest_, files_)),
      runtime_(runtime), threads_(options.threads ? options.threads : processors()) {
    session_options_ = {options.threads, gpu_of(options.device), options.prepack};
    if (!runtime_) return;
    vision_ = load(manifest_.vision);
    salience_ = load(manifest_.salience);
    const int gpu = session_options_.cuda_device;
    device_ = gpu < 0 ? "cpu" : "cuda:" + std::to_string(gpu);
}

std::unique_ptr<Session> pnp_ovss_model::load(const std::string &graph) const {
    files_.require_unwritten();
    auto session = std::make_unique<Session>(*runtime_, folder_ + "/" + graph, session_options_);
    for (const auto &[name, record] : manifest_.files) files_.require_same(name);
    return session;
}

const Runtime &pnp_ovss_model::runtime() const {
    if (!runtime_)
        throw bad_input("the model was opened without a runtime",
                        "give pnp_ovss_model_open a runtime to segment with it");
    return *runtime_;
}

const Session &pnp_ovss_model::vision_tokens() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (manifest_.vision_tokens.empty())
        throw bad_model({"'", folder_, "' has no graph 'vision_tokens', which drop_mode TOKENS needs"},
                        "export the model again, or take another drop_mode");
    if (!vision_tokens_) vision_tokens_ = load(manifest_.vision_tokens);
    return *vision_tokens_;
}
