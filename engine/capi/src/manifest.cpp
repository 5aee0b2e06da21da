#include "manifest.hpp"

#include <cfloat>
#include <cmath>
#include <limits>

#include "failure.hpp"

namespace pnp {

namespace {

constexpr int64_t SCHEMA_VERSION = 2;
constexpr int64_t LARGEST = std::numeric_limits<int32_t>::max();
constexpr int64_t ANY = -1;  // size of a dimension

// What a manifest tells has no use.
[[noreturn]] void refuse(const Words &what) { throw JsonError(what.joined()); }

int count(const Json &json, const char *name, int64_t least = 1) {
    const int64_t value = json.integer();
    if (value < least || value > LARGEST) refuse({"its ", name, " is ", value});
    return int(value);
}

std::array<float, 3> three(const Json &json, const char *name, bool positive) {
    const auto &values = json.array();
    if (values.size() != 3) refuse({"its ", name, " has ", values.size(), " values"});
    std::array<float, 3> out;
    for (size_t i = 0; i < 3; i++) {
        out[i] = float(values[i].number());
        if (!std::isfinite(out[i]) || (positive && out[i] < FLT_MIN)) refuse({"its ", name, " normalizes nothing"});
    }
    return out;
}

Preprocess read_preprocess(const Json &json) {
    Preprocess out;
    const auto &sides = json["sides"].array();
    if (sides.size() != 2) refuse({"its sides are ", sides.size()});
    out.height = count(sides[0], "image height");
    out.width = count(sides[1], "image width");
    out.patch = count(json["patch"], "patch size");
    if (out.height % out.patch || out.width % out.patch || int64_t(out.height) * out.width > LARGEST / 3)
        refuse({"its image size ", out.height, "x", out.width, " cannot be used with patches of ", out.patch});
    out.mean = three(json["mean"], "mean", false);
    out.std = three(json["std"], "deviation", true);
    if (const Json *resize = json.find("resize"))
        if (resize->string() != "pillow-bicubic") refuse({"its resize is ", quoted(resize->string())});
    return out;
}

Text read_text(const Json &json) {
    Text out;
    out.tokenizer = json["tokenizer"].string();
    out.prompt = json["prompt"].string();
    out.joiner = json["joiner"].string();
    out.lowercase = json["lowercase"].boolean();
    out.first_id = count(json["first_id"], "first token", 0);
    out.last_id = count(json["last_id"], "last token", 0);
    out.pad_id = count(json["pad_id"], "padding token", 0);
    const Json &unknown = json["unknown"];
    out.has_unknown = !unknown.is(Json::Kind::null);
    if (out.has_unknown) out.unknown = unknown.string();
    out.context = count(json["context"], "context", 3);
    return out;
}

// Refuses a path that leads out of the folder.
const std::string &inside(const std::string &path) {
    const bool bad = path.empty() || path[0] == '/' || path.find('\0') != std::string::npos ||
                     ("/" + path + "/").find("/../") != std::string::npos;
    if (bad) refuse({"its file ", quoted(path), " is not inside of it"});
    return path;
}

std::map<std::string, FileRecord> read_files(const Json &json) {
    std::map<std::string, FileRecord> out;
    for (const auto &[path, record] : json.object()) {
        const int64_t size = record["size"].integer();
        if (size < 0) refuse({"its file ", quoted(path), " has the size ", size});
        out[inside(path)] = {uint64_t(size), record["sha256"].string()};
    }
    return out;
}

// A tensor that a graph must have: its dtype, and the sizes after the first.
struct WantedTensor {
    const char *name, *dtype;
    std::vector<int64_t> sizes;
};

// Checks the inputs or outputs of a graph, and returns the last size of the first of them.
int64_t check_tensors(const Json &told, const std::string &graph, const std::vector<WantedTensor> &wanted) {
    if (told.object().size() != wanted.size()) refuse({"its graph ", graph, " has other inputs or outputs"});
    int64_t last = ANY;
    for (const WantedTensor &tensor : wanted) {
        const Json &found = told[tensor.name];
        const auto &shape = found["shape"].array();
        bool good = found["dtype"].string() == tensor.dtype && shape.size() == tensor.sizes.size() + 1;
        for (size_t i = 0; good && i < tensor.sizes.size(); i++) {
            const Json &size = shape[i + 1];
            const bool fixed = size.is(Json::Kind::integer);
            if (!fixed) size.string();
            good = tensor.sizes[i] == ANY ? !fixed || size.integer() > 0 : fixed && size.integer() == tensor.sizes[i];
            if (&tensor == &wanted[0]) last = fixed ? size.integer() : ANY;
        }
        if (!good) refuse({"its graph ", graph, " has another ", tensor.name, " than its images and patches make"});
    }
    return last;
}

// Reads the path of a graph, which the folder must list along with its weights.
std::string graph_file(const Json &graph, const Manifest &manifest) {
    const auto listed = [&](const std::string &path) {
        if (!manifest.files.count(path)) refuse({"it does not list ", quoted(path)});
    };
    const Json &weights = graph["weights"];
    if (weights.is(Json::Kind::array)) {
        for (const Json &path : weights.array()) listed(path.string());
    } else {
        listed(weights.string());
    }
    listed(graph["file"].string());
    return graph["file"].string();
}

void read_graphs(const Json &graphs, Manifest &manifest) {
    const Preprocess &p = manifest.preprocess;
    const WantedTensor pixels{"pixel_values", "float32", {3, p.height, p.width}};
    const WantedTensor ids{"input_ids", "int64", {ANY}}, mask{"attention_mask", "int64", {ANY}};

    const Json &vision = graphs["vision"], &salience = graphs["salience"];
    check_tensors(vision["inputs"], "vision", {pixels});
    const WantedTensor any_embeds{"image_embeds", "float32", {1 + p.patches(), ANY}};
    const int64_t width = check_tensors(vision["outputs"], "vision", {any_embeds});
    if (width < 1 || width > LARGEST / (1 + p.patches())) refuse("it does not tell the width of image_embeds");
    manifest.width = int(width);
    const WantedTensor embeds{"image_embeds", "float32", {1 + p.patches(), width}};
    check_tensors(salience["inputs"], "salience", {embeds, ids, mask, {"patch_keep", "float32", {p.patches()}}});
    check_tensors(salience["outputs"], "salience",
                  {{"salience", "float32", {ANY, p.patches()}}, {"itm_logits", "float32", {2}}});
    manifest.vision = graph_file(vision, manifest);
    manifest.salience = graph_file(salience, manifest);
    if (const Json *tokens = graphs.find("vision_tokens")) {
        check_tensors((*tokens)["inputs"], "vision_tokens", {pixels, {"kept", "int64", {ANY}}});
        check_tensors((*tokens)["outputs"], "vision_tokens", {{"image_embeds", "float32", {ANY, width}}});
        manifest.vision_tokens = graph_file(*tokens, manifest);
    }
}

// Refuses models that this library does not run, and says why.
void require_known(const Json &json, const std::string &folder) {
    const char *const elsewhere = "run it by the Python package: pnp-ovss segment --model";
    const std::string &method = json["method"].string(), &tokenizer = json["text"]["tokenizer"].string();
    if (method != "pnp-ovss")
        throw bad_model({"'", folder, "' is for the method ", quoted(method),
                         ", and this library runs 'pnp-ovss' only"}, elsewhere);
    if (tokenizer != "wordpiece")
        throw bad_model({"'", folder, "' has a tokenizer of the kind ", quoted(tokenizer),
                         ", and this library reads 'wordpiece' only"}, elsewhere);
    if (json["all_heads"].boolean())
        throw bad_model({"'", folder, "' was exported with --all-heads, for tuning"},
                        "export it again with --layer and --head to segment with it");
    if (json["dtype"].string() != "float32") refuse({"its dtype is ", quoted(json["dtype"].string())});
}

Manifest read_current(const Json &json, const std::string &folder) {
    require_known(json, folder);
    Manifest out;
    out.family = json["family"].string();
    out.preprocess = read_preprocess(json["preprocess"]);
    out.text = read_text(json["text"]);
    out.files = read_files(json["files"]);
    if (!out.files.count("tokenizer.json")) refuse("it does not list tokenizer.json");
    read_graphs(json["graphs"], out);
    if (const Json *classes = json.find("classes"))
        for (const Json &name : classes->array()) out.classes.push_back(name.string());
    try {
        out.settings = Settings::read(json["settings"]);
    } catch (const Failure &failure) {
        refuse({failure.cause, ", and ", failure.cure});
    }
    return out;
}

}  // namespace

Manifest Manifest::read(const std::string &text, const std::string &folder) {
    try {
        const Json json = Json::parse(text);
        const int64_t version = json["schema_version"].integer();
        if (version > SCHEMA_VERSION)
            throw bad_model({"'", folder, "' has schema version ", version, "; this library reads version ",
                             SCHEMA_VERSION},
                            "it was written by a newer pnp-ovss: build its libpnp_ovss");
        if (version == 1)
            throw bad_model({"'", folder, "' has schema version 1, which this library does not read"},
                            "export the model again: pnp-ovss export");
        if (version < 1) refuse({"schema version ", version});
        return read_current(json, folder);
    } catch (const JsonError &error) {
        throw bad_model({"the manifest of '", folder, "' cannot be used: ", error.what()}, COPY_AGAIN);
    }
}

}  // namespace pnp
