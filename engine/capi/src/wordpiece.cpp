#include "wordpiece.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include "failure.hpp"
#include "unicode.hpp"

namespace pnp {
namespace {

constexpr const char *CURE = "export the model again, with a WordPiece tokenizer such as BERT's";

Failure unusable(const Words &why) { return bad_model({"tokenizer.json cannot be used: ", why.joined()}, CURE); }

// Requires that a part of the tokenizer is of one type.
void require_type(const Json &part, const char *name, const std::string &wanted) {
    const std::string found = part.is(Json::Kind::null) ? "none" : quoted(part["type"].string());
    if (found != quoted(wanted))
        throw unusable({"its ", name, " is ", found, ", and must be '", wanted, "'"});
}

// Requires that something is switched off.
void require_absent(const Json &json, const char *name) {
    const Json *part = json.find(name);
    if (part && !part->is(Json::Kind::null)) throw unusable({"it has ", name, ", and must have none"});
}

uint32_t id_of(const Json &json, const std::string &piece) {
    const int64_t id = json.integer();
    if (id < 0 || id > std::numeric_limits<uint32_t>::max())
        throw unusable({"the id of ", quoted(piece), " is ", id, ", and must be 0 to 4294967295"});
    return uint32_t(id);
}

std::u32string letters_of(const std::string &text) {
    std::optional<std::u32string> letters = decoded(text);
    if (!letters) throw unusable({quoted(text), " is no UTF-8"});
    return *std::move(letters);
}

}  // namespace

Vocabulary::Vocabulary(const std::map<std::string, Json> &ids) : starts_{0} {
    for (const auto &[piece, id] : ids) {  // in the order of their bytes
        letters_ += piece;
        starts_.push_back(letters_.size());
        ids_.push_back(id_of(id, piece));
    }
}

std::string_view Vocabulary::piece(size_t index) const {
    return std::string_view(letters_).substr(starts_[index], starts_[index + 1] - starts_[index]);
}

// A byte of a piece; -1 after its end, as it comes before those that go on.
int Vocabulary::byte(size_t index, size_t depth) const {
    const std::string_view found = piece(index);
    return depth < found.size() ? static_cast<unsigned char>(found[depth]) : -1;
}

Vocabulary::Match Vocabulary::longest(std::string_view prefix, std::string_view rest) const {
    Match best;
    size_t low = 0, high = size();  // the pieces that begin with the bytes up to `depth`
    for (size_t depth = 0; low < high; depth++) {
        if (depth > prefix.size() && byte(low, depth) < 0) best = {depth - prefix.size(), ids_[low]};
        if (depth == prefix.size() + rest.size()) break;
        const char next = depth < prefix.size() ? prefix[depth] : rest[depth - prefix.size()];
        const int wanted = static_cast<unsigned char>(next);
        for (size_t end = high; low < end;) {
            const size_t middle = low + (end - low) / 2;
            if (byte(middle, depth) < wanted)
                low = middle + 1;
            else
                end = middle;
        }
        for (size_t start = low; start < high;) {
            const size_t middle = start + (high - start) / 2;
            if (byte(middle, depth) <= wanted)
                start = middle + 1;
            else
                high = middle;
        }
    }
    return best;
}

std::optional<uint32_t> Vocabulary::find(std::string_view wanted) const {
    size_t low = 0, high = size();
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (piece(middle) < wanted)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == size() || piece(low) != wanted) return std::nullopt;
    return ids_[low];
}

void Vocabulary::digest(Sha256 &digest) const {
    for (size_t i = 0; i < size(); i++) digest.add(std::to_string(ids_[i]) + " " + std::string(piece(i)));
}

WordPiece WordPiece::read(const Json &json) {
    WordPiece made;
    try {
        const Json *version = json.find("version");
        if (version && version->string() != "1.0") throw unusable({"its version is ", quoted(version->string())});
        require_absent(json, "truncation");
        require_absent(json, "padding");
        made.read_normalizer(json["normalizer"]);
        require_type(json["pre_tokenizer"], "pre_tokenizer", "BertPreTokenizer");
        made.read_model(json["model"]);
        const Json *added = json.find("added_tokens");
        if (!added || added->is(Json::Kind::null)) return made;
        for (const Json &token : added->array()) made.add_token(token);
    } catch (const JsonError &error) {
        throw unusable(error.what());
    }
    return made;
}

void WordPiece::read_normalizer(const Json &json) {
    require_type(json, "normalizer", "BertNormalizer");
    clean_ = json["clean_text"].boolean();
    space_ideographs_ = json["handle_chinese_chars"].boolean();
    lowercase_ = json["lowercase"].boolean();
    const Json *strip = json.find("strip_accents");
    strip_marks_ = strip && !strip->is(Json::Kind::null) ? strip->boolean() : lowercase_;
}

void WordPiece::read_model(const Json &json) {
    require_type(json, "model", "WordPiece");
    prefix_ = json["continuing_subword_prefix"].string();
    unknown_ = json["unk_token"].string();
    const int64_t longest = json["max_input_chars_per_word"].integer();
    if (longest < 0) throw unusable({"the longest word has ", longest, " letters"});
    longest_word_ = size_t(longest);
    vocabulary_ = Vocabulary(json["vocab"].object());
    const std::optional<uint32_t> unknown = vocabulary_.find(unknown_);
    if (!unknown) throw unusable({"its vocabulary lacks the unknown token, ", quoted(unknown_)});
    unknown_id_ = *unknown;
}

void WordPiece::add_token(const Json &json) {
    const std::string &content = json["content"].string();
    Added token{letters_of(content), content, id_of(json["id"], content), json["normalized"].boolean()};
    if (content.empty()) return;  // as tokenizers do
    if (token.normalized) token.letters = normalized(token.letters);
    if (token.letters.empty()) throw unusable({"nothing is left of its token ", quoted(content)});
    // A token that the vocabulary lacks gets the next id, whatever the file says.
    int64_t next = int64_t(vocabulary_.size());
    for (const Added &other : added_) next = std::max(next, int64_t(other.id) + 1);
    const int64_t id = token_to_id(content).value_or(next);
    if (id != int64_t(token.id))
        throw unusable({"the id of its token ", quoted(content), " is ", token.id, ", and must be ", id});
    added_.push_back(std::move(token));
}

std::optional<int64_t> WordPiece::token_to_id(const std::string &token) const {
    for (const Added &added : added_)
        if (added.content == token) return added.id;
    return vocabulary_.find(token);
}

std::u32string WordPiece::normalized(const std::u32string &text) const {
    std::u32string out;
    for (const char32_t letter : text) {
        if (clean_ && is_removed(letter)) continue;
        const char32_t cleaned = clean_ && is_made_space(letter) ? U' ' : letter;
        if (space_ideographs_ && is_ideograph(cleaned))
            out += {U' ', cleaned, U' '};
        else
            out += cleaned;
    }
    if (strip_marks_) {
        out = decomposed(out, Rules::tokenizers);
        out.erase(std::remove_if(out.begin(), out.end(), is_mark), out.end());
    }
    return lowercase_ ? lower(out, Rules::tokenizers) : out;
}

// Such a token would be cut out of the text, with rules of its own. No name needs one.
void WordPiece::require_no_added(const std::u32string &text, bool normalized) const {
    for (const Added &token : added_)
        if (token.normalized == normalized && text.find(token.letters) != std::u32string::npos)
            throw bad_input(quoted(encoded(text)) + " holds " + quoted(token.content) + ", a token of the model",
                            "use another word for it");
}

std::vector<std::u32string> WordPiece::words(const std::u32string &text) const {
    require_no_added(text, false);
    const std::u32string clean = normalized(text);
    require_no_added(clean, true);
    std::vector<std::u32string> out;
    bool inside = false;  // of the last word
    for (const char32_t letter : clean) {
        if (is_space(letter, Rules::tokenizers)) {
            inside = false;
        } else if (is_punctuation(letter)) {
            out.emplace_back(1, letter);
            inside = false;
        } else {
            if (!inside) out.emplace_back();
            out.back() += letter;
            inside = true;
        }
    }
    return out;
}

std::vector<int64_t> WordPiece::encode(const std::u32string &text) const {
    std::vector<int64_t> ids;
    for (const std::u32string &word : words(text)) append_pieces(word, ids);
    return ids;
}

// The longest piece that a word begins with, then the longest of the rest. A word of which something is left over is
// unknown as a whole, and so is one that is too long.
void WordPiece::append_pieces(const std::u32string &word, std::vector<int64_t> &ids) const {
    const size_t before = ids.size();
    const std::string text = word.size() > longest_word_ ? "" : encoded(word);
    std::string_view rest = text;
    while (!rest.empty()) {
        const Vocabulary::Match match = vocabulary_.longest(rest.size() < text.size() ? prefix_ : "", rest);
        if (match.bytes == 0) break;
        ids.push_back(match.id);
        rest.remove_prefix(match.bytes);
    }
    if (rest.empty() && !text.empty()) return;
    ids.resize(before);
    ids.push_back(unknown_id_);
}

void WordPiece::digest(Sha256 &digest) const {
    const bool flags[] = {clean_, space_ideographs_, strip_marks_, lowercase_};
    for (const bool flag : flags) digest.add(flag ? "1" : "0");
    digest.add(prefix_);
    digest.add(unknown_);
    digest.add(std::to_string(longest_word_));
    for (const Added &token : added_) digest.add((token.normalized ? "1" : "0") + token.content);
    vocabulary_.digest(digest);
}

}  // namespace pnp
