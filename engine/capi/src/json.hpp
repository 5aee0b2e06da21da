// A small reader of JSON (RFC 8259): manifest.json and tokenizer.json of a model folder.
#pragma once

#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace pnp {

// The text is no JSON, or a value is missing or of another type.
struct JsonError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// A value. Whoever asks for a type that it does not have gets a JsonError that names the key of the value.
class Json {
public:
    Json() = default;
    Json(Json &&) = default;
    Json &operator=(Json &&) = default;

    enum class Kind { null, boolean, integer, number, string, array, object };

    // Reads a text. Depth is limited, strings must be UTF-8, and of a key that is there twice the last counts.
    static Json parse(std::string_view text);

    Kind kind() const { return kind_; }
    bool is(Kind kind) const { return kind_ == kind; }

    bool boolean() const;
    int64_t integer() const;           // a number with neither fraction nor exponent that 64 bits hold
    double number() const;             // an integer, too
    const std::string &string() const;
    const std::vector<Json> &array() const;
    const std::map<std::string, Json> &object() const;

    const Json &operator[](const std::string &key) const;  // of an object; JsonError where it is missing
    const Json *find(const std::string &key) const;        // of an object; null where it is missing

private:
    friend class JsonReader;
    void require(Kind wanted) const;

    Kind kind_ = Kind::null;
    bool boolean_ = false;
    int64_t integer_ = 0;
    double number_ = 0;
    std::string string_;
    std::vector<Json> array_;
    std::map<std::string, Json> object_;
    const std::string *key_ = nullptr;  // of the object that it is in; null elsewhere
};

}  // namespace pnp
