// SHA-256 (FIPS 180-4), by which the files of a model folder are known.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace pnp {

class Sha256 {
public:
    void update(const uint8_t *data, size_t bytes);

    // Adds a text with its length before it, so that no two rows of texts give the same.
    void add(const std::string &text);

    // Ends the message, and returns its digest in hex.
    std::string hex();

private:
    std::array<uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    std::array<uint8_t, 64> block_ = {};  // begun, not yet full
    uint64_t bytes_ = 0;                  // of the message so far
};

}  // namespace pnp
