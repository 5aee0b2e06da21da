#include "captions.hpp"

#include <algorithm>
#include <limits>
#include <map>
#include <unordered_map>
#include <utility>

#include "failure.hpp"
#include "unicode.hpp"

namespace pnp {
namespace {

constexpr size_t MOST_CLASSES = std::numeric_limits<uint16_t>::max();  // of a label map
constexpr size_t MOST_LETTERS = 10000;                                 // of a name: more than any caption holds
constexpr const char *PROBES[] = {"cat", "potted plant", "hot-dog", "Zebra"};
constexpr const char *EXPORT_AGAIN = "export it again with the model's own tokenizer";

std::u32string letters_of(const std::string &text) {
    std::optional<std::u32string> letters = decoded(text);
    if (!letters) throw bad_model({"the text ", quoted(text), " of the model is no UTF-8"}, EXPORT_AGAIN);
    return *std::move(letters);
}

std::string numbered(const char *what, size_t number) { return std::string(what) + " " + std::to_string(number); }

// Requires that classes are numbered from 0 and ascending by 0 or 1. Returns how many there are.
size_t count_classes(const uint32_t *class_of, size_t count) {
    for (size_t i = 0; class_of && i < count; i++) {
        const uint32_t before = i > 0 ? class_of[i - 1] : 0;
        if (class_of[i] != before && (i == 0 || class_of[i] != before + 1))
            throw bad_input(numbered("name", i + 1) + " has the class number " + std::to_string(class_of[i]) +
                                (i > 0 ? ", after " + std::to_string(before) : ""),
                            "number the classes from 0; a name has the number of the one before it, or one more");
    }
    return class_of ? size_t(class_of[count - 1]) + 1 : count;
}

// Tells where a name stands: "class 2 of 3", or "name 1 of class 2 of 3" where the class has several.
std::string place_of(size_t index, const uint32_t *class_of, size_t count, size_t classes) {
    const size_t one = class_of ? class_of[index] : index;
    const std::string where = numbered("class", one + 1) + " of " + std::to_string(classes);
    if (!class_of) return where;
    const size_t first = size_t(std::lower_bound(class_of, class_of + count, one) - class_of);
    const bool alone = first == index && (index + 1 == count || class_of[index + 1] != one);
    return alone ? where : numbered("name", index - first + 1) + " of " + where;
}

bool is_control(char32_t letter) { return letter < 0x20 || (letter >= 0x7F && letter < 0xA0); }

// Checks names and removes outer and repeated white space.
class Cleaner {
public:
    std::string clean(const char *given, const std::string &where) {
        if (!given) throw bad_input({where, " is NULL"}, "give each name as text in UTF-8");
        const std::string raw = given;
        const std::optional<std::u32string> letters = decoded(raw);
        if (!letters) throw bad_input({"class ", quoted(raw), " is not valid text"}, "give it in UTF-8");
        const std::u32string name = spaced_once(*letters);
        const std::string text = encoded(name);
        if (name.empty()) throw bad_input({where, " has an empty name"}, "remove it");
        if (name.size() > MOST_LETTERS)
            throw bad_input({where, " has a name of ", name.size(), " characters: ", quoted(text)},
                            "a name has 10000 at most: shorten it");
        if (std::any_of(name.begin(), name.end(), is_control))
            throw bad_input({"class ", quoted(text), " holds a control character"}, "remove it");
        const auto [before, is_new] = seen_.emplace(folded(name), text);
        if (!is_new)
            throw bad_input("class " + quoted(text) + " is named twice" +
                                (before->second == text ? "" : ", before as " + quoted(before->second)),
                            "name each class once");
        return text;
    }

private:
    std::unordered_map<std::u32string, std::string> seen_;  // by form
};

// Writes a name as one word, without spaces and hyphens.
std::u32string joined(const std::u32string &name) {
    std::u32string out;
    for (const char32_t letter : name)
        if (letter != U'-' && !is_space(letter, Rules::python)) out += letter;
    return out;
}

bool fits_into(int64_t context, size_t ids, size_t pieces) {
    return context > 0 && ids + pieces + 1 <= uint64_t(context);
}

Caption opened(const Names &names) {
    Caption caption;
    caption.ids.push_back(names.first_id);
    caption.ids.insert(caption.ids.end(), names.prompt.begin(), names.prompt.end());
    return caption;
}

void append(const Names::Name &name, Caption &caption) {
    caption.owners.push_back({name.class_index, uint32_t(caption.ids.size()), uint32_t(name.pieces.size())});
    caption.ids.insert(caption.ids.end(), name.pieces.begin(), name.pieces.end());
}

// What decides how names become pieces and captions.
std::string fingerprint_of(const WordPiece &tokenizer, const Text &text, const std::vector<std::string> &known) {
    std::vector<std::string> parts = known;
    parts.insert(parts.end(), {text.prompt, text.joiner, text.lowercase ? "lower" : "", text.unknown});
    for (const int64_t number : {text.first_id, text.last_id, text.pad_id, text.context, int64_t(text.has_unknown)})
        parts.push_back(std::to_string(number));
    Sha256 digest;
    for (const std::string &part : parts) digest.add(part);
    tokenizer.digest(digest);
    return digest.hex();
}

}  // namespace

std::vector<Caption> captions(const Names &names, const std::vector<uint8_t> &present) {
    std::vector<Caption> out;
    for (const Names::Name &name : names.names) {
        if (!present[name.class_index]) continue;
        if (out.empty() || !fits_into(names.context, out.back().ids.size(), name.pieces.size()))
            out.push_back(opened(names));
        append(name, out.back());
    }
    for (Caption &caption : out) caption.ids.push_back(names.last_id);
    return out;
}

std::vector<Caption> single_captions(const Names &names) {
    std::vector<Caption> out;
    for (const Names::Name &name : names.names) {
        out.push_back(opened(names));
        append(name, out.back());
        out.back().ids.push_back(names.last_id);
    }
    return out;
}

Padded pad(const Names &names, const std::vector<Caption> &captions) {
    Padded out;
    out.count = captions.size();
    for (const Caption &caption : captions) out.length = std::max(out.length, caption.ids.size());
    for (const Caption &caption : captions) {
        out.ids.insert(out.ids.end(), caption.ids.begin(), caption.ids.end());
        out.mask.insert(out.mask.end(), caption.ids.size(), 1);
        out.ids.insert(out.ids.end(), out.length - caption.ids.size(), names.pad_id);
        out.mask.insert(out.mask.end(), out.length - caption.ids.size(), 0);
    }
    return out;
}

Captioner::Captioner(WordPiece tokenizer, Text text, std::vector<std::string> known)
    : tokenizer_(std::move(tokenizer)), text_(std::move(text)), known_(std::move(known)),
      barred_{text_.first_id, text_.last_id, text_.pad_id},
      fingerprint_(fingerprint_of(tokenizer_, text_, known_)) {
    for (const std::string &name : known_) known_forms_.insert(folded(letters_of(name)));
    if (text_.has_unknown)
        if (const std::optional<int64_t> unknown = tokenizer_.token_to_id(text_.unknown)) barred_.push_back(*unknown);
    const std::u32string prompt = letters_of(text_.prompt);
    prompt_ = encode_own(prompt);
    if (holds_barred(prompt_))
        throw bad_model({"the prompt ", quoted(text_.prompt), " cannot be written in this model's vocabulary"},
                        EXPORT_AGAIN);
    require_ids_of_a_sentence(prompt);
}

std::vector<int64_t> Captioner::encode(const std::u32string &letters) const {
    return tokenizer_.encode(text_.lowercase ? lower(letters, Rules::python) : letters);
}

// Encodes what is not of the caller, but of the model or of this file.
std::vector<int64_t> Captioner::encode_own(const std::u32string &letters) const {
    try {
        return encode(letters);
    } catch (const Failure &failure) {
        throw bad_model({"a caption cannot be written: ", failure.cause}, EXPORT_AGAIN);
    }
}

void Captioner::require_ids_of_a_sentence(const std::u32string &prompt) const {
    std::vector<int64_t> apart = prompt_;
    std::u32string sentence = prompt;
    for (const char *probe : PROBES) {
        const std::u32string name = letters_of(text_.joiner + probe);
        const std::vector<int64_t> pieces = encode_own(name);
        apart.insert(apart.end(), pieces.begin(), pieces.end());
        sentence += name;
    }
    if (apart != encode_own(sentence))
        throw bad_model({"the tokenizer gives names other ids in a sentence than by themselves with ",
                         quoted(text_.joiner), " before them"}, EXPORT_AGAIN);
}

bool Captioner::holds_barred(const std::vector<int64_t> &pieces) const {
    return std::find_first_of(pieces.begin(), pieces.end(), barred_.begin(), barred_.end()) != pieces.end();
}

std::vector<int64_t> Captioner::pieces_of(const std::string &name, bool join) const {
    const std::u32string letters = letters_of(name);
    if (!known_.empty() && known_forms_.count(folded(letters)) == 0) {
        std::string listed;
        for (const std::string &one : known_) listed += (listed.empty() ? "" : ", ") + one;
        throw bad_input({"class ", quoted(name), " was not taught to this model"},
                        {"it knows: ", listed, "; for other names take another model"});
    }
    const std::u32string written = join ? joined(letters) : letters;
    std::vector<int64_t> pieces;
    try {
        pieces = encode(letters_of(text_.joiner) + written);
    } catch (const Failure &) {
        pieces.clear();  // it holds a token that was added to the vocabulary
    }
    if (pieces.empty() || holds_barred(pieces))
        throw bad_input("class " + quoted(encoded(written)) + " cannot be written in this model's vocabulary",
                        written == letters ? "use another word for it"
                                           : "join_words (preset 'released') makes one word of " + quoted(name) +
                                                 ": use the preset 'paper'");
    if (!fits_into(text_.context, prompt_.size() + 1, pieces.size()))
        throw bad_input({"class ", quoted(name), " is ", pieces.size(), " word pieces long"},
                        {"a caption of this model holds ", text_.context, " tokens: shorten it"});
    return pieces;
}

Names Captioner::names(const char *const *names, const uint32_t *class_of, size_t count, bool join) const {
    if (count == 0) throw bad_input("no class was named", "name at least one, such as cat or potted plant");
    if (!names) throw bad_input("names is NULL", "give an array of names");
    if (count > MOST_CLASSES)
        throw bad_input({count, class_of ? " names" : " classes"}, {"give ", MOST_CLASSES, " at most"});
    const size_t classes = count_classes(class_of, count);
    Names out;
    Cleaner cleaner;
    for (size_t i = 0; i < count; i++) {
        const uint32_t one = class_of ? class_of[i] : uint32_t(i);
        out.names.push_back({cleaner.clean(names[i], place_of(i, class_of, count, classes)), one, {}});
    }
    std::map<std::vector<int64_t>, const Names::Name *> alike;
    for (Names::Name &name : out.names) {
        name.pieces = pieces_of(name.text, join);
        const auto [other, is_new] = alike.emplace(name.pieces, &name);
        if (!is_new) throw read_alike(other->second->text, name.text, join);
    }
    out.classes = classes;
    out.joined = join;
    out.fingerprint = fingerprint_;
    out.prompt = prompt_;
    out.first_id = text_.first_id;
    out.last_id = text_.last_id;
    out.pad_id = text_.pad_id;
    out.context = text_.context;
    return out;
}

Failure Captioner::read_alike(const std::string &one, const std::string &other, bool join) const {
    const bool apart = join && encode(letters_of(one)) != encode(letters_of(other));
    return bad_input({"names ", quoted(one), " and ", quoted(other), " are read alike, as the same word pieces"},
                     apart ? "join_words (preset 'released') makes them one word: use the preset 'paper'"
                           : "name one of them");
}

}  // namespace pnp
