// Any bytes are JSON or are refused; what is read can be walked through.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "json.hpp"

using pnp::Json;

namespace {

template <class Read>
void refused(const Read &read) {
    try {
        read();
    } catch (const pnp::JsonError &error) {
        if (!*error.what()) std::abort();
        return;
    }
    std::abort();
}

// Looks at a value by each of its types, and returns how many values there are in it.
size_t walk(const Json &json) {
    size_t count = 1;
    if (!json.is(Json::Kind::boolean)) refused([&] { json.boolean(); });
    if (!json.is(Json::Kind::integer)) refused([&] { json.integer(); });
    if (!json.is(Json::Kind::string)) refused([&] { json.string(); });
    if (json.is(Json::Kind::integer)) {
        if (json.number() != double(json.integer())) std::abort();
    } else if (json.is(Json::Kind::number)) {
        if (!(json.number() - json.number() == 0)) std::abort();  // NaN, or infinite
    } else {
        refused([&] { json.number(); });
    }
    if (json.is(Json::Kind::array)) {
        for (const Json &member : json.array()) count += walk(member);
    } else {
        refused([&] { json.array(); });
    }
    if (json.is(Json::Kind::object)) {
        for (const auto &[key, member] : json.object()) {
            if (json.find(key) != &member || &json[key] != &member) std::abort();
            count += walk(member);
        }
    } else {
        refused([&] { json.object(); });
        refused([&] { json.find(""); });
    }
    return count;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    try {
        const Json json = Json::parse(std::string_view(reinterpret_cast<const char *>(data), size));
        if (walk(json) > size) std::abort();
    } catch (const pnp::JsonError &error) {
        if (std::string(error.what()).size() > 1000 + 7 * size) std::abort();
    }
    return 0;
}
