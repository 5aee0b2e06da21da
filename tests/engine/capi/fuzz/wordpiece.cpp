// Bytes up to the first zero are tokenizer.json, those behind it a name. Without any, that of the environment's
// FUZZ_TOKENIZER is taken.
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>

#include "captions.hpp"
#include "failure.hpp"
#include "unicode.hpp"
#include "wordpiece.hpp"

using namespace pnp;

namespace {

std::unique_ptr<const WordPiece> whole;

void encode(const WordPiece &tokenizer, const std::string &bytes) {
    const auto letters = decoded(bytes);
    if (!letters) return;
    if (encoded(*letters) != bytes) std::abort();
    const std::u32string once = spaced_once(*letters);
    if (spaced_once(once) != once) std::abort();
    if (folded(once) != folded(*letters)) std::abort();
    for (const Rules rules : {Rules::tokenizers, Rules::python}) {
        lower(*letters, rules);
        const std::u32string apart = decomposed(*letters, rules);
        if (decomposed(apart, rules) != apart) std::abort();
    }
    try {
        const auto ids = tokenizer.encode(*letters);
        for (const int64_t id : ids)
            if (id < 0 || id > INT64_C(0xFFFFFFFF)) std::abort();
        if (ids != tokenizer.encode(*letters)) std::abort();
        if (tokenizer.words(*letters).empty() && !ids.empty()) std::abort();
    } catch (const Failure &failure) {
        if (!*failure.what()) std::abort();
    }
    const Text text{"wordpiece", "A picture of", " ", true, 72, 3, 0, true, "[UNK]", 64};
    const char *const names[] = {"cat", bytes.c_str()};
    try {
        const Captioner captioner(tokenizer, text, {});
        for (const bool join : {false, true}) {
            const Names made = captioner.names(names, nullptr, 2, join);
            for (const Caption &caption : captions(made, {1, 1}))
                if (caption.ids.size() > 64) std::abort();
        }
    } catch (const Failure &failure) {
        if (failure.code != PNP_OVSS_BAD_INPUT && failure.code != PNP_OVSS_BAD_MODEL) std::abort();
    }
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int *, char ***) {
    std::ifstream file(std::getenv("FUZZ_TOKENIZER"), std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    whole = std::make_unique<const WordPiece>(WordPiece::read(Json::parse(text)));
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const std::string all(reinterpret_cast<const char *>(data), size);
    const size_t end = all.find('\0');
    const std::string json = all.substr(0, end), text = end == std::string::npos ? "cat" : all.substr(end + 1);
    try {
        if (json.empty()) encode(*whole, text);
        else encode(WordPiece::read(Json::parse(json)), text);
    } catch (const JsonError &) {
    } catch (const Failure &failure) {
        if (!*failure.what()) std::abort();
    }
    return 0;
}
