// The WordPiece tokenizer of a model, as the tokenizers package has it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "json.hpp"
#include "sha256.hpp"

namespace pnp {

// The pieces of a vocabulary, in order, and their ids.
class Vocabulary {
public:
    Vocabulary() = default;
    explicit Vocabulary(const std::map<std::string, Json> &ids);

    size_t size() const { return ids_.size(); }
    std::optional<uint32_t> find(std::string_view piece) const;

    struct Match {
        size_t bytes = 0;  // of the rest; 0 where no piece matches
        uint32_t id = 0;
    };

    // Finds the longest piece that is `prefix` and then a beginning, not an empty one, of `rest`.
    Match longest(std::string_view prefix, std::string_view rest) const;

    void digest(Sha256 &digest) const;

private:
    std::string_view piece(size_t index) const;
    int byte(size_t index, size_t depth) const;

    std::string letters_;         // of all pieces
    std::vector<size_t> starts_;  // in `letters_`, and the end of the last piece
    std::vector<uint32_t> ids_;
};

// Text becomes words by BertNormalizer and BertPreTokenizer, and words become pieces by the model WordPiece.
class WordPiece {
public:
    // Reads the contents of tokenizer.json. Throws a Failure where it is damaged, or is another tokenizer.
    static WordPiece read(const Json &json);

    // Returns the ids of a text, without those that open and close a sentence. Throws a Failure where the text holds
    // a token that was added to the vocabulary, such as "[SEP]".
    std::vector<int64_t> encode(const std::u32string &text) const;

    // Returns the words of a text.
    std::vector<std::u32string> words(const std::u32string &text) const;

    std::optional<int64_t> token_to_id(const std::string &token) const;

    // Adds all that decides what `encode` returns.
    void digest(Sha256 &digest) const;

private:
    // A token that is looked for in a text before it is split into words.
    struct Added {
        std::u32string letters;
        std::string content;
        uint32_t id;
        bool normalized;  // whether it is looked for in the normalized text
    };

    WordPiece() = default;
    void read_normalizer(const Json &json);
    void read_model(const Json &json);
    void add_token(const Json &json);
    std::u32string normalized(const std::u32string &text) const;
    void require_no_added(const std::u32string &text, bool normalized) const;
    void append_pieces(const std::u32string &word, std::vector<int64_t> &ids) const;

    bool clean_ = true, space_ideographs_ = true, strip_marks_ = true, lowercase_ = true;
    Vocabulary vocabulary_;
    std::string prefix_, unknown_;
    size_t longest_word_ = 0;  // in letters
    uint32_t unknown_id_ = 0;
    std::vector<Added> added_;
};

}  // namespace pnp
