#include "json.hpp"

#include <charconv>
#include <locale>
#include <sstream>
#include <system_error>

#include "unicode.hpp"

namespace pnp {

namespace {

constexpr int DEEPEST = 64;  // values inside of each other

const char *name_of(Json::Kind kind) {
    switch (kind) {
        case Json::Kind::null: return "null";
        case Json::Kind::boolean: return "true or false";
        case Json::Kind::integer: return "a whole number";
        case Json::Kind::number: return "a number";
        case Json::Kind::string: return "a string";
        case Json::Kind::array: return "an array";
        case Json::Kind::object: return "an object";
    }
    return "";
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

}  // namespace

class JsonReader {
public:
    explicit JsonReader(std::string_view text) : text_(text) {}

    Json document() {
        Json value = read(0);
        skip_space();
        if (at_ < text_.size()) fail("something follows its end");
        return value;
    }

private:
    [[noreturn]] void fail(const std::string &what) const {
        throw JsonError("it is no JSON: " + what + ", at byte " + std::to_string(at_));
    }

    void skip_space() {
        while (at_ < text_.size() && std::string_view(" \t\n\r").find(text_[at_]) != std::string_view::npos) at_++;
    }

    char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

    bool take(std::string_view word) {
        if (text_.substr(at_, word.size()) != word) return false;
        at_ += word.size();
        return true;
    }

    void expect(char c) {
        skip_space();
        if (peek() != c || at_ == text_.size()) fail(std::string("'") + c + "' is missing");
        at_++;
    }

    Json read(int depth) {
        if (depth > DEEPEST) fail("it is nested too deep");
        skip_space();
        Json value;
        if (at_ == text_.size()) fail("it ends too early");
        if (peek() == '{') {
            read_object(value, depth);
        } else if (peek() == '[') {
            read_array(value, depth);
        } else if (peek() == '"') {
            value.kind_ = Json::Kind::string;
            value.string_ = read_string();
        } else if (take("true") || take("false")) {
            value.kind_ = Json::Kind::boolean;
            value.boolean_ = text_[at_ - 2] == 'u';
        } else if (!take("null")) {
            read_number(value);
        }
        return value;
    }

    void read_object(Json &value, int depth) {
        value.kind_ = Json::Kind::object;
        at_++;
        skip_space();
        if (peek() == '}') {
            at_++;
            return;
        }
        do {
            skip_space();
            if (peek() != '"') fail("a key is missing");
            std::string key = read_string();
            expect(':');
            Json member = read(depth + 1);
            const auto place = value.object_.insert_or_assign(std::move(key), std::move(member)).first;
            place->second.key_ = &place->first;
        } while (goes_on('}'));
    }

    void read_array(Json &value, int depth) {
        value.kind_ = Json::Kind::array;
        at_++;
        skip_space();
        if (peek() == ']') {
            at_++;
            return;
        }
        do value.array_.push_back(read(depth + 1));
        while (goes_on(']'));
    }

    // Takes the comma before the next member, or the end.
    bool goes_on(char end) {
        skip_space();
        if (peek() == ',') {
            at_++;
            return true;
        }
        expect(end);
        return false;
    }

    void read_number(Json &value) {
        const size_t start = at_;
        if (peek() == '-') at_++;
        if (peek() == '0') {
            at_++;
        } else {
            read_digits();
        }
        bool whole = true;
        if (peek() == '.') {
            whole = false;
            at_++;
            read_digits();
        }
        if (peek() == 'e' || peek() == 'E') {
            whole = false;
            at_++;
            if (peek() == '+' || peek() == '-') at_++;
            read_digits();
        }
        const std::string_view digits = text_.substr(start, at_ - start);
        value.kind_ = whole && to_integer(digits, value.integer_) ? Json::Kind::integer : Json::Kind::number;
        value.number_ = value.is(Json::Kind::integer) ? double(value.integer_) : to_number(digits);
    }

    // Returns false where 64 bits do not hold the number.
    static bool to_integer(std::string_view digits, int64_t &out) {
        const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), out);
        return error == std::errc() && end == digits.data() + digits.size();
    }

    double to_number(std::string_view digits) const {
        std::istringstream stream{std::string(digits)};
        stream.exceptions(std::ios::badbit);    // want of memory
        stream.imbue(std::locale::classic());  // whatever the host has set
        double number = 0;
        if (!(stream >> number) && number != 0) fail("a number is too large");
        return number;
    }

    void read_digits() {
        if (!is_digit(peek())) fail("a value is missing");
        while (is_digit(peek())) at_++;
    }

    std::string read_string() {
        std::string out;
        for (at_++; at_ < text_.size() && text_[at_] != '"';) {
            const auto c = static_cast<unsigned char>(text_[at_]);
            if (c < 0x20) fail("a string holds a control character");
            if (c == '\\') {
                at_++;
                append_escape(out);
            } else if (c < 0x80) {
                out += text_[at_++];
            } else {
                append_multibyte(out);
            }
        }
        if (at_ == text_.size()) fail("a string has no end");
        at_++;
        return out;
    }

    void append_escape(std::string &out) {
        const char c = peek();
        at_++;
        switch (c) {
            case '"': case '\\': case '/': out += c; return;
            case 'b': out += '\b'; return;
            case 'f': out += '\f'; return;
            case 'n': out += '\n'; return;
            case 'r': out += '\r'; return;
            case 't': out += '\t'; return;
            case 'u': break;
            default: fail("a string holds an unknown escape");
        }
        uint32_t code = read_hex();
        if (code >= 0xD800 && code < 0xDC00) {
            if (!take("\\u")) fail("half of a character is missing");
            const uint32_t low = read_hex();
            if (low < 0xDC00 || low > 0xDFFF) fail("half of a character is missing");
            code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        } else if (code >= 0xDC00 && code < 0xE000) {
            fail("half of a character is missing");
        }
        out += encoded({char32_t(code)});
    }

    uint32_t read_hex() {
        uint32_t code = 0;
        for (int i = 0; i < 4; i++, at_++) {
            const size_t digit = std::string_view("0123456789abcdefABCDEF").find(peek());
            if (at_ == text_.size() || digit == std::string_view::npos) fail("a string holds an unknown escape");
            code = code * 16 + uint32_t(digit < 16 ? digit : digit - 6);
        }
        return code;
    }

    void append_multibyte(std::string &out) {
        const size_t start = at_;
        if (!next_letter(text_, at_)) fail("it is not UTF-8");
        out.append(text_.substr(start, at_ - start));
    }

    std::string_view text_;
    size_t at_ = 0;
};

Json Json::parse(std::string_view text) { return JsonReader(text).document(); }

void Json::require(Kind wanted) const {
    if (kind_ == wanted) return;
    throw JsonError((key_ ? "`" + *key_ + "`" : "a value") + " is " + name_of(kind_) + ", and must be " +
                    name_of(wanted));
}

bool Json::boolean() const {
    require(Kind::boolean);
    return boolean_;
}

int64_t Json::integer() const {
    require(Kind::integer);
    return integer_;
}

double Json::number() const {
    if (kind_ != Kind::integer) require(Kind::number);
    return number_;
}

const std::string &Json::string() const {
    require(Kind::string);
    return string_;
}

const std::vector<Json> &Json::array() const {
    require(Kind::array);
    return array_;
}

const std::map<std::string, Json> &Json::object() const {
    require(Kind::object);
    return object_;
}

const Json &Json::operator[](const std::string &key) const {
    if (const Json *member = find(key)) return *member;
    throw JsonError("`" + (key_ ? *key_ + "." : "") + key + "` is missing");
}

const Json *Json::find(const std::string &key) const {
    require(Kind::object);
    const auto found = object_.find(key);
    return found == object_.end() ? nullptr : &found->second;
}

}  // namespace pnp
