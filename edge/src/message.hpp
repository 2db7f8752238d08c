// The message of a thread's last failed call. The text has a fixed size, because a message about missing
// memory must not need any.
#pragma once

namespace skf {

void set_message(const char* text) noexcept;
const char* message() noexcept;

}  // namespace skf
