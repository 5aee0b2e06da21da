// A graph in a session of ONNX Runtime, and runs of it that can be stopped.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "runtime.hpp"

namespace pnp {

// Frees an object of ONNX Runtime by a function of its table.
template <class T>
using Handle = std::unique_ptr<T, void (*)(T *)>;

// An input or output of a graph, in the caller's memory.
struct Tensor {
    const char *name;
    int type;                    // PNP_ORT_FLOAT or PNP_ORT_INT64
    std::vector<int64_t> shape;
    void *data;

    static Tensor floats(const char *name, std::vector<int64_t> shape, const float *data) {
        return {name, PNP_ORT_FLOAT, std::move(shape), const_cast<float *>(data)};
    }
    static Tensor integers(const char *name, std::vector<int64_t> shape, const int64_t *data) {
        return {name, PNP_ORT_INT64, std::move(shape), const_cast<int64_t *>(data)};
    }
};

// What a call runs with: its cancel stops the run that is under way, and throws at the next.
class Call {
public:
    Call(const Runtime &runtime, pnp_ovss_cancel *cancel);
    ~Call();
    Call(const Call &) = delete;

    const pnp_ort_run_options *options() const { return options_.get(); }

    // Throws a Failure where the call was cancelled.
    void require_wanted() const;

private:
    Handle<pnp_ort_run_options> options_;
    pnp_ovss_cancel *cancel_;
};

struct SessionOptions {
    int threads = 0;       // of the CPU that a run may use; 0 leaves it to ONNX Runtime
    int cuda_device = -1;  // number of the GPU; -1 for the CPU
    bool prepack = false;  // whether weights are copied in a layout of its own
};

class Session {
public:
    // Loads a graph. Throws a Failure.
    Session(const Runtime &runtime, const std::string &path, const SessionOptions &options);

    // Runs the graph; it writes the outputs into their memory. Any number of threads may run it at once.
    void run(const Call &call, const std::vector<Tensor> &inputs, const std::vector<Tensor> &outputs) const;

private:
    Handle<pnp_ort_value> value(const Tensor &tensor) const;

    const Ort &ort_;
    std::string path_;
    Handle<pnp_ort_memory_info> memory_;
    Handle<pnp_ort_session> session_;
};

}  // namespace pnp

// Whether calls were cancelled, and what is under way for them.
struct pnp_ovss_cancel {
    std::mutex mutex;
    bool cancelled = false;
    struct Running {
        const pnp::Ort *ort;
        pnp_ort_run_options *options;
    };
    std::vector<Running> running;

    void now();
};
