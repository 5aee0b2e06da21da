// A few threads that do the same work side by side.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "loops.hpp"

namespace pnp {

class Team {
public:
    // The caller is one of its members; with fewer threads than asked for where no more can be had.
    explicit Team(int size) {
        try {
            for (int member = 1; member < size; member++)
                helpers_.emplace_back([this, member] { serve(member); });
        } catch (const std::system_error &) {
        }
    }

    ~Team() {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            done_ = true;
        }
        begin_.notify_all();
        for (auto &helper : helpers_) helper.join();
    }

    Team(const Team &) = delete;
    Team &operator=(const Team &) = delete;

    int size() const { return int(helpers_.size()) + 1; }

    // Calls work(member) for each member, at the same time; throws what the first of them threw.
    void run(const std::function<void(int)> &work) {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            work_ = &work;
            failure_ = nullptr;
            busy_ = int(helpers_.size());
            round_++;
        }
        begin_.notify_all();
        attempt(0);
        std::unique_lock<std::mutex> lock(mutex_);
        end_.wait(lock, [this] { return busy_ == 0; });
        if (failure_) std::rethrow_exception(failure_);
    }

    // Calls work(member, first, last) for the members' shares of [0, count), each of whole blocks
    // but for the last.
    template <class Work>
    void share(int64_t count, const Work &work) {
        const int64_t blocks = (count + BLOCK - 1) / BLOCK;
        run([&](int member) {
            work(member, blocks * member / size() * BLOCK,
                 std::min(blocks * (member + 1) / size() * BLOCK, count));
        });
    }

private:
    std::vector<std::thread> helpers_;
    std::mutex mutex_;
    std::condition_variable begin_, end_;
    const std::function<void(int)> *work_ = nullptr;
    std::exception_ptr failure_;
    int64_t round_ = 0;
    int busy_ = 0;
    bool done_ = false;

    void attempt(int member) {
        try {
            (*work_)(member);
        } catch (...) {
            std::lock_guard<std::mutex> lock(mutex_);
            if (!failure_) failure_ = std::current_exception();
        }
    }

    void serve(int member) {
        for (int64_t seen = 0;;) {
            {
                std::unique_lock<std::mutex> lock(mutex_);
                begin_.wait(lock, [&] { return done_ || round_ != seen; });
                if (done_) return;
                seen = round_;
            }
            attempt(member);
            std::lock_guard<std::mutex> lock(mutex_);
            if (--busy_ == 0) end_.notify_one();
        }
    }
};

}  // namespace pnp
