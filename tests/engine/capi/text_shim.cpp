// What the library makes of text, for the tests in Python. Built as a program, it reads texts and only has to survive.
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "captions.hpp"
#include "failure.hpp"
#include "unicode.hpp"

#define EXPORT __attribute__((visibility("default")))

namespace {

using namespace pnp;

thread_local std::string answer, failure;

// Calls a function and keeps its answer. Returns false where it fails, and keeps why.
template <class Function>
bool answered(Function function) {
    try {
        answer = function();
        return true;
    } catch (const Failure &error) {
        failure = std::to_string(error.code) + "\n" + error.cause + "\n" + error.cure;
    } catch (const JsonError &error) {
        failure = std::string("0\n") + error.what() + "\n";
    }
    return false;
}

template <class Made, class Function>
Made *made(Function function) {
    std::unique_ptr<Made> out;
    answered([&] {
        out = std::make_unique<Made>(function());
        return "";
    });
    return out.release();
}

std::string mapped(const std::string &which, const std::string &text) {
    if (which == "quoted") return quoted(text);
    const std::optional<std::u32string> letters = decoded(text);
    if (!letters) throw bad_input("no UTF-8", "");
    if (which == "same") return encoded(*letters);
    if (which == "lower") return encoded(lower(*letters, Rules::python));
    if (which == "spaced") return encoded(spaced_once(*letters));
    if (which == "folded") return encoded(folded(*letters));
    if (which == "decomposed") return encoded(decomposed(*letters, Rules::python));
    if (which == "tokenizers.lower") return encoded(lower(*letters, Rules::tokenizers));
    if (which == "tokenizers.decomposed") return encoded(decomposed(*letters, Rules::tokenizers));
    throw bad_input("no such map", "");
}

template <class Number>
std::string listed(const std::vector<Number> &numbers) {
    std::string out;
    for (const Number number : numbers) out += (out.empty() ? "" : ",") + std::to_string(number);
    return "[" + out + "]";
}

std::string listed(const std::vector<Caption> &captions, const Names &names) {
    std::string out;
    for (const Caption &caption : captions) {
        out += (out.empty() ? "[" : ",[") + listed(caption.ids);
        for (const Caption::Owner &owner : caption.owners)
            out += "," + listed(std::vector<uint32_t>{owner.class_index, owner.first, owner.count});
        out += "]";
    }
    const Padded padded = pad(names, captions);
    return "[[" + out + "]," + std::to_string(padded.count) + "," + std::to_string(padded.length) + "," +
           listed(padded.ids) + "," + listed(padded.mask) + "]";
}

Text text_of(const Json &json) {
    Text out;
    out.tokenizer = json["tokenizer"].string();
    out.prompt = json["prompt"].string();
    out.joiner = json["joiner"].string();
    out.lowercase = json["lowercase"].boolean();
    out.first_id = json["first_id"].integer();
    out.last_id = json["last_id"].integer();
    out.pad_id = json["pad_id"].integer();
    out.has_unknown = !json["unknown"].is(Json::Kind::null);
    if (out.has_unknown) out.unknown = json["unknown"].string();
    out.context = json["context"].integer();
    return out;
}

// Makes a captioner of {"text": ..., "known": [...]}.
Captioner captioner_of(const WordPiece &tokenizer, const Json &json) {
    std::vector<std::string> known;
    for (const Json &name : json["known"].array()) known.push_back(name.string());
    return Captioner(tokenizer, text_of(json["text"]), known);
}

}  // namespace

extern "C" {

EXPORT const char *text_answer(size_t *size) {
    *size = answer.size();
    return answer.data();
}

EXPORT const char *text_failure() { return failure.c_str(); }

EXPORT bool text_map(const char *which, const char *text, size_t size) {
    return answered([&] { return mapped(which, std::string(text, size)); });
}

EXPORT WordPiece *text_tokenizer(const char *json) {
    return made<WordPiece>([&] { return WordPiece::read(Json::parse(json)); });
}

EXPORT void text_tokenizer_free(WordPiece *tokenizer) { delete tokenizer; }

EXPORT bool text_words(const WordPiece *tokenizer, const char *text, size_t size) {
    return answered([&] {
        std::string out;
        for (const std::u32string &word : tokenizer->words(decoded({text, size}).value())) out += encoded(word) + "\n";
        return out;
    });
}

EXPORT bool text_encode(const WordPiece *tokenizer, const char *text, size_t size) {
    return answered([&] { return listed(tokenizer->encode(decoded({text, size}).value())); });
}

EXPORT int64_t text_token_id(const WordPiece *tokenizer, const char *token) {
    return tokenizer->token_to_id(token).value_or(-1);
}

EXPORT Captioner *text_captioner(const WordPiece *tokenizer, const char *json) {
    return made<Captioner>([&] { return captioner_of(*tokenizer, Json::parse(json)); });
}

EXPORT void text_captioner_free(Captioner *captioner) { delete captioner; }

EXPORT const char *text_fingerprint(const Captioner *captioner) { return captioner->fingerprint().c_str(); }

EXPORT Names *text_names(const Captioner *captioner, const char *const *names, const uint32_t *class_of, size_t count,
                         bool join) {
    return made<Names>([&] { return captioner->names(names, class_of, count, join); });
}

EXPORT void text_names_free(Names *names) { delete names; }

EXPORT size_t text_names_classes(const Names *names) { return names->classes; }

// With `present` null, each name has a caption.
EXPORT bool text_captions(const Names *names, const uint8_t *present) {
    return answered([&] {
        if (!present) return listed(single_captions(*names), *names);
        return listed(captions(*names, std::vector<uint8_t>(present, present + names->classes)), *names);
    });
}
}

// Reads what text_tokenizer and text_captioner take, and then names, all ended by zero bytes.
int main() {
    const std::string all{std::istreambuf_iterator<char>(std::cin), {}};
    std::vector<std::string> texts;
    for (size_t start = 0, end; (end = all.find('\0', start)) != std::string::npos; start = end + 1)
        texts.push_back(all.substr(start, end - start));
    std::unique_ptr<WordPiece> tokenizer{text_tokenizer(texts.at(0).c_str())};
    if (!tokenizer) return std::cout << failure, 1;
    const std::unique_ptr<Captioner> captioner{text_captioner(tokenizer.get(), texts.at(1).c_str())};
    if (!captioner) return std::cout << failure, 1;
    tokenizer.reset();
    size_t taken = 0;
    for (size_t i = 2; i < texts.size(); i++) {
        text_map("quoted", texts[i].data(), texts[i].size());
        const char *pair[] = {"cat", texts[i].c_str()};
        for (const bool join : {false, true}) {
            const std::unique_ptr<Names> names{text_names(captioner.get(), pair, nullptr, 2, join)};
            const uint8_t present[] = {1, 1};
            if (names) taken += text_captions(names.get(), nullptr) && text_captions(names.get(), present);
        }
    }
    std::cout << texts.size() - 2 << " names, written " << taken << " times\n";
}
