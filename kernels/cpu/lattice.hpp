// The permutohedral lattice (Adams, Baek and Davis, Fast High-Dimensional Filtering Using the Permutohedral
// Lattice, 2010): the vertices and weights of each pixel's simplex, and the neighbors of each vertex.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "buffer.hpp"
#include "loops.hpp"
#include "team.hpp"

namespace pnp {

// Number of a vertex, from 1. Vertex 0 stands for "none", and its values are always zero.
using Vertex = uint32_t;

// Features are too far apart for float32, or vertices too many for their numbers.
struct OutOfRange : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct Lattice {
    int corners = 0;          // vertices of a simplex: D + 1
    int64_t vertices = 0;     // number of vertices, vertex 0 included
    Buffer<Vertex> vertex;    // [points][corners]: vertices of the simplex that a point lies in
    Buffer<float> weight;     // [points][corners]: barycentric weights
    Buffer<Vertex> neighbor;  // [corners][vertices][2]: the two neighbors along each direction
};

// Order in which the pixels of an image are processed: tile by tile, so that pixels processed together
// share vertices. A point is a pixel's number in this order.
class Order {
public:
    Order(int width, int height) : width_(width), height_(height) {}

    int64_t points() const { return int64_t(width_) * height_; }

    class Walk;

    // Calls visit(point, pixel, count) for each row of a tile, for the image's rows from `first` to `last`:
    // the `count` points from `point` on are the pixels from `pixel` on.
    template <class Visit>
    void rows(int64_t first, int64_t last, const Visit &visit) const {
        for (int64_t y = first; y < last; y++) {
            const int64_t top = y / TALL * TALL, tall = std::min<int64_t>(TALL, height_ - top);
            for (int left = 0; left < width_; left += WIDE) {
                const int wide = std::min(WIDE, width_ - left);
                visit(top * width_ + tall * left + (y - top) * wide, y * width_ + left, wide);
            }
        }
    }

    static constexpr int WIDE = 64, TALL = 16;

private:
    int width_, height_;
};

// Iterates over the points, from a given point on.
class Order::Walk {
public:
    int x, y;

    Walk(Order order, int64_t point) : order_(order) {
        const int64_t band = point / (int64_t(TALL) * order.width_);
        top_ = int(band * TALL);
        bottom_ = std::min(top_ + TALL, order.height_);
        point -= band * TALL * order.width_;
        const int64_t tile = point / ((bottom_ - top_) * WIDE);
        point -= tile * (bottom_ - top_) * WIDE;
        enter(int(tile * WIDE));
        x += int(point % (right_ - left_));
        y += int(point / (right_ - left_));
    }

    int64_t pixel() const { return int64_t(y) * order_.width_ + x; }

    void next() {
        if (++x < right_) return;
        x = left_;
        if (++y < bottom_) return;
        if (right_ < order_.width_) return enter(right_);
        top_ = bottom_;
        bottom_ = std::min(top_ + TALL, order_.height_);
        enter(0);
    }

private:
    Order order_;
    int left_, right_, top_, bottom_;

    void enter(int left) {
        x = left_ = left;
        y = top_;
        right_ = std::min(left + WIDE, order_.width_);
    }
};

// Packs the first D coordinates of a vertex into a key; the last coordinate follows from them.
template <int D, class Key>
struct Packing {
    Key unit[D + 1];  // what 1 in a coordinate adds to a key
    Key bias = 0;     // what makes every coordinate positive

    // wrap[i], added to a key, steps to the vertex of the next remainder: 1 is added to every coordinate but
    // coordinate i, from which D is subtracted.
    Key wrap[D + 1];

    void set(const int (&bits)[D]) {
        Key step = 1, all = 0;
        for (int i = 0; i < D; step <<= bits[i], i++) {
            unit[i] = step;
            all += step;
            bias += step << (bits[i] - 1);
        }
        unit[D] = 0;
        for (int i = 0; i <= D; i++) wrap[i] = all - Key(D + 1) * unit[i];
    }
};

// Hash table from keys to vertices: open addressing, linear probing, at most half full.
template <class Key>
class VertexTable {
public:
    // Starts with a size that suffices for most photographs of so many points; the table grows.
    VertexTable(int64_t points, Memory &memory) : memory_(&memory) {
        int64_t size = 1024;
        while (size < points / 2) size *= 2;
        resize(size);
    }

    Vertex find_or_add(Key key) {
        if (2 * count_ >= size_) resize(2 * size_);
        Slot &slot = slots_[probe(key)];
        if (slot.vertex == 0) {
            if (count_ >= UINT32_MAX - 1) throw OutOfRange("more vertices than can be numbered");
            keys_[count_] = key;
            slot = {key, Vertex(++count_)};
        }
        return slot.vertex;
    }

    Vertex find(Key key) const { return slots_[probe(key)].vertex; }

    // Prefetches the slot in which a key will be looked up.
    void prefetch(Key key) const { __builtin_prefetch(&slots_[hash_slot(key)]); }

    int64_t count() const { return count_; }
    Key key(int64_t vertex) const { return keys_[vertex - 1]; }

private:
    struct Slot {
        Key key;
        Vertex vertex;
    };
    Memory *memory_;
    int64_t size_ = 0, count_ = 0;
    Buffer<Slot> slots_;
    Buffer<Key> keys_;

    int64_t hash_slot(Key key) const {
        uint64_t hash = uint64_t(key);
        if constexpr (sizeof(Key) > 8) hash ^= uint64_t(key >> 64) * 0xC2B2AE3D27D4EB4Fu;
        hash = (hash ^ (hash >> 32)) * 0x9E3779B97F4A7C15u;
        return int64_t(hash >> 20) & (size_ - 1);
    }

    int64_t probe(Key key) const {
        int64_t slot = hash_slot(key);
        while (slots_[slot].vertex != 0 && slots_[slot].key != key) slot = (slot + 1) & (size_ - 1);
        return slot;
    }

    void resize(int64_t size) {
        Buffer<Key> keys = uninitialized<Key>(size / 2, *memory_);
        std::copy(keys_.get(), keys_.get() + count_, keys.get());
        keys_ = std::move(keys);
        slots_.reset();
        slots_ = uninitialized<Slot>(size_ = size, *memory_);
        std::fill(slots_.get(), slots_.get() + size, Slot{0, 0});
        for (int64_t i = 0; i < count_; i++) slots_[probe(keys_[i])] = {keys_[i], Vertex(i + 1)};
    }
};

// Builds the lattice over the pixels' positions (D = 2), or over positions and colors (D = 5).
//
// A vertex of weight 0, on the edge of a simplex, still passes the blur on. So the set of such vertices must
// not depend on rounding, and features are rounded at each step as in the code of the paper's authors.
template <int D>
class LatticeBuilder {
public:
    LatticeBuilder(const uint8_t *image, int width, int height, const float *deviations,
                   const Functions &functions, Team &team, Memory &memory)
        : image_(image), order_(width, height), functions_(functions), team_(team), memory_(memory) {
        const float spread = float(std::sqrt(2.0 / 3.0) * (D + 1));  // deviation of the lattice's blur
        for (int i = 0; i < D; i++) {
            const float scale = float(1 / std::sqrt(double((i + 1) * (i + 2))) * double(spread));
            const int values = i == 0 ? width : i == 1 ? height : 256;
            for (int value = 0; value < values; value++)
                feature_[i].push_back(float(value) / deviations[i] * scale);
        }
    }

    Lattice build() {
        int bits[D], total = 0;
        for (int i = 0; i < D; i++) total += bits[i] = coordinate_bits(i);
        return total <= 64 ? build<uint64_t>(bits) : build<unsigned __int128>(bits);
    }

private:
    static constexpr int64_t AHEAD = 12;  // vertices between a prefetch and its use

    const uint8_t *image_;
    const Order order_;
    const Functions &functions_;
    Team &team_;
    Memory &memory_;
    std::vector<float> feature_[D];  // of each column, row or level of color, in lattice units

    // Returns the bits that coordinate `i` of any vertex and of its neighbors needs, with a sign.
    int coordinate_bits(int i) const {
        float farthest = i == 0 ? 0 : float(i) * feature_[i - 1].back(), sum = 0;
        for (int j = i; j < D; j++) sum += feature_[j].back();
        farthest = std::max(farthest, sum) + 4 * (D + 1);
        if (!(farthest < float(1 << 22)))
            throw OutOfRange("features so far apart that float32 cannot tell neighbors");
        return 2 + int(std::log2(farthest));
    }

    template <class Key>
    Lattice build(const int (&bits)[D]) {
        Packing<D, Key> packing;
        packing.set(bits);
        const int64_t points = order_.points();
        Lattice lattice;
        lattice.corners = D + 1;
        lattice.vertex = uninitialized<Vertex>(points * (D + 1), memory_);
        lattice.weight = uninitialized<float>(points * (D + 1), memory_);
        std::vector<VertexTable<Key>> tables;
        for (int member = 0; member < team_.size(); member++)
            tables.emplace_back(points / team_.size(), memory_);
        team_.share(points, [&](int member, int64_t first, int64_t last) {
            locate(lattice, tables[size_t(member)], packing, first, last);
        });
        merge(lattice, tables);
        connect(lattice, tables[0], packing);
        return lattice;
    }

    // Fills in the vertices and weights of the points from `first` to `last`. `table` numbers the vertices.
    template <class Key>
    void locate(Lattice &lattice, VertexTable<Key> &table, const Packing<D, Key> &packing, int64_t first,
               int64_t last) const {
        Order::Walk walk(order_, first);
        alignas(32) float features[D][BLOCK] = {}, weight[D + 1][BLOCK];
        alignas(32) int32_t base[D + 1][BLOCK], order[D + 1][BLOCK];
        Key keys[BLOCK][D + 1];
        for (int64_t block = first; block < last; block += BLOCK) {
            const int count = int(std::min<int64_t>(BLOCK, last - block));
            for (int b = 0; b < count; b++, walk.next()) {
                features[0][b] = feature_[0][size_t(walk.x)];
                features[1][b] = feature_[1][size_t(walk.y)];
                const uint8_t *color = image_ + 3 * walk.pixel();
                for (int i = 2; i < D; i++) features[i][b] = feature_[i][color[i - 2]];
            }
            (D == 2 ? functions_.locate2 : functions_.locate5)(features[0], base[0], order[0], weight[0]);
            for (int b = 0; b < count; b++) {
                Key key = packing.bias;
                for (int i = 0; i < D; i++) key += Key(int64_t(base[i][b])) * packing.unit[i];
                for (int r = 0; r <= D; key += packing.wrap[order[D - r][b]], r++) {
                    keys[b][r] = key;
                    table.prefetch(key);
                }
            }
            for (int b = 0; b < count; b++)
                for (int r = 0; r <= D; r++) {
                    lattice.vertex[(block + b) * (D + 1) + r] = table.find_or_add(keys[b][r]);
                    lattice.weight[(block + b) * (D + 1) + r] = weight[r][b];
                }
        }
    }

    // Merges all tables into the first one, and numbers the vertices of all points by it.
    template <class Key>
    void merge(Lattice &lattice, std::vector<VertexTable<Key>> &tables) const {
        std::vector<std::vector<Vertex>> renamed(tables.size());
        for (size_t member = 1; member < tables.size(); member++) {
            renamed[member].reserve(size_t(tables[member].count()));
            for (int64_t v = 1; v <= tables[member].count(); v++)
                renamed[member].push_back(tables[0].find_or_add(tables[member].key(v)));
            tables[member] = VertexTable<Key>(0, memory_);
        }
        lattice.vertices = 1 + tables[0].count();
        team_.share(order_.points(), [&](int member, int64_t first, int64_t last) {
            if (member == 0) return;
            for (int64_t i = first * (D + 1); i < last * (D + 1); i++)
                lattice.vertex[i] = renamed[size_t(member)][lattice.vertex[i] - 1];
        });
    }

    // Finds the two neighbors of each vertex along each direction. A step along direction j adds D to
    // coordinate j and subtracts 1 from every other coordinate, or the reverse.
    template <class Key>
    void connect(Lattice &lattice, const VertexTable<Key> &table, const Packing<D, Key> &packing) const {
        lattice.neighbor = uninitialized<Vertex>(lattice.vertices * (D + 1) * 2, memory_);
        Vertex *all = lattice.neighbor.get();
        team_.run([&](int member) {
            for (int j = member; j <= D; j += team_.size()) {
                Vertex(*pairs)[2] = reinterpret_cast<Vertex(*)[2]>(all + j * lattice.vertices * 2);
                std::fill(&pairs[0][0], &pairs[lattice.vertices][0], 0);
                for (int64_t v = 1; v < lattice.vertices; v++) {
                    table.prefetch(table.key(std::min(v + AHEAD, lattice.vertices - 1)) - packing.wrap[j]);
                    const Vertex next = table.find(table.key(v) - packing.wrap[j]);
                    if (next == 0) continue;
                    pairs[v][0] = next;
                    pairs[next][1] = Vertex(v);
                }
            }
        });
    }
};

}  // namespace pnp
