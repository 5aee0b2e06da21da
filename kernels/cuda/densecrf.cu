// The dense CRF on the permutohedral lattice, as in `kernels/cpu`; a thread computes a pixel or a value.
// Vertices are numbered from 1; vertex 0 stands for "none", and its values are always zero. Atomic additions
// come in any order, so the last digits of a result vary from run to run.

typedef unsigned long long Key;
typedef unsigned int Vertex;

#define EMPTY 0xFFFFFFFFFFFFFFFFull  // key of a free slot; other keys are below 2^63

static __device__ unsigned int hash_slot(Key key, unsigned int mask) {
    return (unsigned int)(((key ^ (key >> 32)) * 0x9E3779B97F4A7C15ull) >> 20) & mask;
}

// Returns the slot of a key, after adding the key if it is new. The table is never full.
static __device__ unsigned int take_slot(Key *table, unsigned int mask, Key key) {
    for (unsigned int slot = hash_slot(key, mask);; slot = (slot + 1) & mask) {
        Key present = *(volatile Key *)&table[slot];  // the key is mostly present, and a swap is slow
        if (present == EMPTY) present = atomicCAS(&table[slot], EMPTY, key);
        if (present == EMPTY || present == key) return slot;
    }
}

// Returns the vertex of a key; 0 if the table lacks the key.
static __device__ Vertex find_vertex(const Key *table, const Vertex *number, unsigned int mask, Key key) {
    for (unsigned int slot = hash_slot(key, mask);; slot = (slot + 1) & mask) {
        if (table[slot] == key) return number[slot];
        if (table[slot] == EMPTY) return 0;
    }
}

// Finds the simplex that each pixel lies in (Adams, Baek and Davis 2010, section 4.2). Each step is rounded
// as on the CPU: the set of vertices of weight 0 must not depend on rounding.
//   image      uint8 [points][3]; features 0 and 1 are a pixel's column and row, 2 to 4 its color
//   deviation  float [D]: standard deviation of each feature
//   scale      float [D]: feature / deviation * scale is in lattice units
//   units      [D + 1]: what 1 in a coordinate adds to a key; the last makes all coordinates positive
//   table      [mask + 1]: hash table of keys, filled in
//   slot       [points][D + 1]: slot of each vertex's key, filled in
//   weight     float [points][D + 1]: barycentric weights, filled in
template <int D>
static __device__ void locate(const unsigned char *image, int width, Index points, const float *scale,
                             const float *deviation, const Key *units, Key *table,
                             unsigned int mask, unsigned int *slot, float *weight) {
    for (Index p = first_item(); p < points; p += next_items()) {
        float elevated[D + 1], rest[D + 1], sorted[D + 1], sum = 0;
        int base[D + 1], rank[D + 1], order[D + 1], excess = 0;
        for (int j = D; j > 0; j--) {
            const int i = j - 1;
            const int value = i == 0 ? (int)(p % width) : i == 1 ? (int)(p / width) : image[3 * p + i - 2];
            const float feature = __fmul_rn(__fdiv_rn((float)value, deviation[i]), scale[i]);
            elevated[j] = __fsub_rn(sum, __fmul_rn((float)j, feature));
            sum = __fadd_rn(sum, feature);
        }
        elevated[0] = sum;
        for (int i = 0; i <= D; i++) {
            const float rounded = rintf(__fmul_rn(elevated[i], 1.0f / (D + 1)));
            rest[i] = elevated[i] - rounded * (float)(D + 1);
            base[i] = (int)rounded * (D + 1);
            excess += (int)rounded;
            rank[i] = 0;
        }
        for (int i = 0; i < D; i++)
            for (int j = i + 1; j <= D; j++) rank[rest[i] < rest[j] ? i : j]++;
        for (int i = 0; i <= D; i++) {  // onto the plane where the coordinates sum to 0
            rank[i] += excess;
            const int turn = rank[i] < 0 ? D + 1 : rank[i] > D ? -(D + 1) : 0;
            rank[i] += turn;
            base[i] += turn;
            order[rank[i]] = i;
            sorted[rank[i]] = (elevated[i] - (float)base[i]) * (1.0f / (D + 1));
        }
        Key key = units[D], ones = 0;
        for (int i = 0; i < D; i++) {
            key += (Key)(Index)base[i] * units[i];
            ones += units[i];
        }
        for (int r = 0; r <= D; r++) {
            slot[p * (D + 1) + r] = take_slot(table, mask, key);
            weight[p * (D + 1) + r] =
                r == 0 ? 1.0f + sorted[D] - sorted[0] : sorted[D - r] - sorted[D + 1 - r];
            const int wrapped = order[D - r];
            key += ones - (wrapped < D ? (Key)(D + 1) * units[wrapped] : 0);
        }
    }
}

extern "C" __global__ void crf_locate2(const unsigned char *image, int width, Index points,
                                      const float *scale, const float *deviation, const Key *units,
                                      Key *table, unsigned int mask, unsigned int *slot, float *weight) {
    locate<2>(image, width, points, scale, deviation, units, table, mask, slot, weight);
}

extern "C" __global__ void crf_locate5(const unsigned char *image, int width, Index points,
                                      const float *scale, const float *deviation, const Key *units,
                                      Key *table, unsigned int mask, unsigned int *slot, float *weight) {
    locate<5>(image, width, points, scale, deviation, units, table, mask, slot, weight);
}

// Finds the two neighbors of each vertex along each direction.
//   keys      [vertices]: key of each vertex; keys[0] is not read
//   steps     [corners]: what a step along each direction adds to a key
//   table     [mask + 1]: hash table of keys
//   number    [mask + 1]: number of the vertex in each slot
//   neighbor  [corners][vertices][2], filled in
extern "C" __global__ void crf_neighbors(const Key *keys, Index vertices, const Key *steps, int corners,
                                          const Key *table, const Vertex *number, unsigned int mask,
                                          Vertex *neighbor) {
    for (Index i = first_item(); i < vertices * corners; i += next_items()) {
        const Index vertex = i % vertices;
        const Key step = steps[i / vertices];
        neighbor[2 * i] = vertex ? find_vertex(table, number, mask, keys[vertex] + step) : 0;
        neighbor[2 * i + 1] = vertex ? find_vertex(table, number, mask, keys[vertex] - step) : 0;
    }
}

// Splats: value [vertices][labels] += weight [points][corners] * q [points][labels], at the points' vertices.
extern "C" __global__ void crf_splat(const float *q, Index points, int labels, const Vertex *vertex,
                                     const float *weight, int corners, float *value) {
    for (Index i = first_item(); i < points * labels; i += next_items()) {
        const Index p = i / labels;
        const int label = (int)(i % labels);
        for (int c = 0; c < corners; c++)
            atomicAdd(&value[(Index)vertex[p * corners + c] * labels + label], weight[p * corners + c] * q[i]);
    }
}

// Blurs along one direction: to = from + (left + right) / 2, [vertices][labels], where left and right are
// the values of the two neighbors [vertices][2].
extern "C" __global__ void crf_blur(const float *from, const Vertex *neighbor, Index vertices, int labels,
                                    float *to) {
    for (Index i = first_item(); i < vertices * labels; i += next_items()) {
        const Index vertex = i / labels;
        const int label = (int)(i % labels);
        to[i] = from[i] + 0.5f * (from[(Index)neighbor[2 * vertex] * labels + label] +
                                  from[(Index)neighbor[2 * vertex + 1] * labels + label]);
    }
}

// Returns the message of a kernel to a label of point p: the weighted sum over the point's vertices.
static __device__ float message(const float *value, const Vertex *vertex, const float *weight, int corners,
                                Index p, int labels, int label) {
    float sum = 0;
    for (int c = 0; c < corners; c++)
        sum += weight[p * corners + c] * value[(Index)vertex[p * corners + c] * labels + label];
    return sum;
}

// Slices: out [points][labels] = in + the messages of both kernels; a kernel with 0 corners sends none. With
// `normalize`, out is the softmax of that sum over the labels.
extern "C" __global__ void crf_slice(const float *in, Index points, int labels,
                                     const float *value2, const Vertex *vertex2, const float *weight2,
                                     int corners2, const float *value5, const Vertex *vertex5,
                                     const float *weight5, int corners5, int normalize, float *out) {
    for (Index p = first_item(); p < points; p += next_items()) {
        float most = -3.402823466e38f, total = 0;
        float *row = out + p * labels;
        for (int l = 0; l < labels; l++) {
            row[l] = in[p * labels + l] + message(value2, vertex2, weight2, corners2, p, labels, l) +
                     message(value5, vertex5, weight5, corners5, p, labels, l);
            most = fmaxf(most, row[l]);
        }
        if (!normalize) continue;
        for (int l = 0; l < labels; l++) total += row[l] = expf(row[l] - most);
        for (int l = 0; l < labels; l++) row[l] /= total;
    }
}
