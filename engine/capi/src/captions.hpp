// Class names as the tokens of captions: what engine/inputs/names.py and engine/inputs/text.py do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <unordered_set>
#include <vector>

#include "failure.hpp"
#include "wordpiece.hpp"

namespace pnp {

// How class names become tokens, from the manifest.
struct Text {
    std::string tokenizer, prompt, joiner;
    bool lowercase = false;
    int64_t first_id = 0, last_id = 0, pad_id = 0;
    bool has_unknown = false;
    std::string unknown;
    int64_t context = 0;  // tokens that fit into a caption, the first and the last included
};

struct Caption {
    std::vector<int64_t> ids;  // those that open and close it included

    // A name in a caption: the number of its class, and the positions of its pieces.
    struct Owner {
        uint32_t class_index, first, count;
    };
    std::vector<Owner> owners;
};

// What pnp_ovss_names holds: names that were checked, as pieces, and what a caption is made of but names.
struct Names {
    struct Name {
        std::string text;
        uint32_t class_index;
        std::vector<int64_t> pieces;
    };
    std::vector<Name> names;  // by class
    size_t classes = 0;
    bool joined = false;      // each name was written as one word
    std::string fingerprint;  // of the captioner: one that has the same reads the names alike
    std::vector<int64_t> prompt;
    int64_t first_id = 0, last_id = 0, pad_id = 0, context = 0;
};

// Writes captions that together hold all names of the classes that are present, in order. A name that no longer fits
// opens the next caption; none is split. `present` has an element for each class.
std::vector<Caption> captions(const Names &names, const std::vector<uint8_t> &present);

// Writes a caption for each name by itself.
std::vector<Caption> single_captions(const Names &names);

// Captions of one length, [count][length].
struct Padded {
    size_t count = 0, length = 0;
    std::vector<int64_t> ids, mask;
};

Padded pad(const Names &names, const std::vector<Caption> &captions);

// Makes names for one model.
class Captioner {
public:
    // With `known` not empty, the model takes no other names. Throws a Failure where the tokenizer cannot write the
    // prompt, or gives names other ids in a sentence than by themselves.
    Captioner(WordPiece tokenizer, Text text, std::vector<std::string> known);

    const std::string &fingerprint() const { return fingerprint_; }

    // Checks names and makes pieces of them. `class_of` has the number of the class of each name, from 0 and
    // ascending by 0 or 1; null where each name is a class. With `join` a name is written as one word. Throws a
    // Failure where a name cannot be used.
    Names names(const char *const *names, const uint32_t *class_of, size_t count, bool join) const;

private:
    std::vector<int64_t> encode(const std::u32string &letters) const;
    std::vector<int64_t> encode_own(const std::u32string &letters) const;
    bool holds_barred(const std::vector<int64_t> &pieces) const;
    void require_ids_of_a_sentence(const std::u32string &prompt) const;
    std::vector<int64_t> pieces_of(const std::string &name, bool join) const;
    Failure read_alike(const std::string &one, const std::string &other, bool join) const;

    WordPiece tokenizer_;
    Text text_;
    std::vector<std::string> known_;
    std::unordered_set<std::u32string> known_forms_;
    std::vector<int64_t> barred_, prompt_;
    std::string fingerprint_;
};

}  // namespace pnp
