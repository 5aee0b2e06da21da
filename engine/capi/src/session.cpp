#include "session.hpp"

#include <algorithm>

#include "failure.hpp"

namespace pnp {

namespace {

constexpr int FATAL = 4;  // severity: what is wrong comes back as a status

const char *const UPGRADE = "take a newer ONNX Runtime, or export the model again";
const char *const GPU = "check the driver with nvidia-smi, and give an ONNX Runtime with CUDA (pip install"
                        " onnxruntime-gpu), its CUDA and cuDNN";

// Makes an object: create(&object) fills it in, and a null status says that it did.
template <class T, class Create>
Handle<T> make(const Ort &ort, void (*release)(T *), const Words &doing, const Create &create,
               int32_t code = PNP_OVSS_FAILED, const char *cure = UPGRADE) {
    T *object = nullptr;
    pnp_ort_status *status = create(&object);
    Handle<T> handle(object, release);
    ort.check(status, code, doing, cure);
    return handle;
}

// Has the session run on a GPU.
void use_cuda(const Ort &ort, pnp_ort_session_options *options, int device) {
    const std::string what = "ONNX Runtime cannot use the GPU cuda:" + std::to_string(device);
    pnp_ort_cuda_options *made = nullptr;
    pnp_ort_status *status = ort.create_cuda_options(&made);
    const Handle<pnp_ort_cuda_options> cuda(made, ort.release_cuda_options);
    ort.check(status, PNP_OVSS_NO_DEVICE, what, GPU);
    const std::string number = std::to_string(device);
    const char *const keys[] = {"device_id", "use_tf32", "cudnn_conv_algo_search"};
    const char *const values[] = {number.c_str(), "0", "HEURISTIC"};  // TF32 is about 1e-3 off
    ort.check(ort.update_cuda_options(cuda.get(), keys, values, 3), PNP_OVSS_NO_DEVICE, what, GPU);
    ort.check(ort.append_cuda(options, cuda.get()), PNP_OVSS_NO_DEVICE, what, GPU);
}

}  // namespace

Call::Call(const Runtime &runtime, pnp_ovss_cancel *cancel)
    : options_(make<pnp_ort_run_options>(runtime.ort(), runtime.ort().release_run_options, "options of a run",
                                         [&](auto **out) { return runtime.ort().create_run_options(out); })),
      cancel_(cancel) {
    if (!cancel_) return;
    const std::lock_guard<std::mutex> lock(cancel_->mutex);
    cancel_->running.push_back({&runtime.ort(), options_.get()});
}

Call::~Call() {
    if (!cancel_) return;
    const std::lock_guard<std::mutex> lock(cancel_->mutex);
    auto &running = cancel_->running;
    const auto is_this = [&](const pnp_ovss_cancel::Running &one) { return one.options == options_.get(); };
    running.erase(std::remove_if(running.begin(), running.end(), is_this), running.end());
}

void Call::require_wanted() const {
    if (!cancel_) return;
    const std::lock_guard<std::mutex> lock(cancel_->mutex);
    if (cancel_->cancelled) throw Failure(PNP_OVSS_CANCELLED, "the call was cancelled", "");
}

Session::Session(const Runtime &runtime, const std::string &path, const SessionOptions &options)
    : ort_(runtime.ort()), path_(path),
      memory_(make<pnp_ort_memory_info>(ort_, ort_.release_memory_info, "memory of ONNX Runtime", [&](auto **out) {
          return ort_.create_cpu_memory_info(PNP_ORT_DEVICE_ALLOCATOR, PNP_ORT_DEFAULT_MEMORY, out);
      })),
      session_(nullptr, ort_.release_session) {
    const std::string what = "options of a session";
    const auto made = make<pnp_ort_session_options>(ort_, ort_.release_session_options, what,
                                                    [&](auto **out) { return ort_.create_session_options(out); });
    const auto set = [&](const char *key, const char *value) {
        ort_.check(ort_.add_session_config_entry(made.get(), key, value), PNP_OVSS_FAILED, what, UPGRADE);
    };
    ort_.check(ort_.set_session_log_severity_level(made.get(), FATAL), PNP_OVSS_FAILED, what, UPGRADE);
    // its threads share the processors with the host's, and must not spin while they wait
    set("session.intra_op.allow_spinning", "0");
    // weights stay in the mapped file, shared by processes and loaded at once
    set("session.disable_prepacking", options.prepack ? "0" : "1");
    if (options.threads > 0)
        ort_.check(ort_.set_intra_op_num_threads(made.get(), options.threads), PNP_OVSS_FAILED, what, UPGRADE);
    if (options.cuda_device >= 0) use_cuda(ort_, made.get(), options.cuda_device);
    const bool on_gpu = options.cuda_device >= 0;
    session_ = make<pnp_ort_session>(
        ort_, ort_.release_session, {"ONNX Runtime cannot load '", path, on_gpu ? "' on the GPU" : "'"},
        [&](auto **out) { return ort_.create_session(runtime.env(), path.c_str(), made.get(), out); },
        on_gpu ? PNP_OVSS_NO_DEVICE : PNP_OVSS_BAD_MODEL, on_gpu ? GPU : UPGRADE);
}

Handle<pnp_ort_value> Session::value(const Tensor &tensor) const {
    size_t bytes = tensor.type == PNP_ORT_FLOAT ? sizeof(float) : sizeof(int64_t);
    for (const int64_t size : tensor.shape) bytes *= size_t(size);
    return make<pnp_ort_value>(ort_, ort_.release_value, {"the tensor ", tensor.name}, [&](auto **out) {
        return ort_.create_tensor_with_data(memory_.get(), tensor.data, bytes, tensor.shape.data(), tensor.shape.size(),
                                            tensor.type, out);
    });
}

void Session::run(const Call &call, const std::vector<Tensor> &inputs, const std::vector<Tensor> &outputs) const {
    call.require_wanted();
    std::vector<Handle<pnp_ort_value>> values;
    std::vector<const char *> names;
    std::vector<pnp_ort_value *> pointers;
    for (const auto *tensors : {&inputs, &outputs})
        for (const Tensor &tensor : *tensors) {
            values.push_back(value(tensor));
            names.push_back(tensor.name);
            pointers.push_back(values.back().get());
        }
    pnp_ort_status *status =
        ort_.run(session_.get(), call.options(), names.data(), pointers.data(), inputs.size(),
                 names.data() + inputs.size(), outputs.size(), pointers.data() + inputs.size());
    if (!status) return;
    Handle<pnp_ort_status> failed(status, ort_.release_status);
    call.require_wanted();
    const bool is_other_graph = ort_.get_error_code(status) == PNP_ORT_INVALID_ARGUMENT;
    ort_.check(failed.release(),
               is_other_graph ? PNP_OVSS_BAD_MODEL : PNP_OVSS_FAILED, {"ONNX Runtime failed on '", path_, "'"},
               is_other_graph ? "the graph is not what the manifest tells: export the model again"
                              : "if memory ran out, segment fewer images at a time; else export the model again");
}

}  // namespace pnp

void pnp_ovss_cancel::now() {
    const std::lock_guard<std::mutex> lock(mutex);
    cancelled = true;
    for (const Running &one : running)
        if (pnp_ort_status *status = one.ort->run_options_set_terminate(one.options)) one.ort->release_status(status);
}
