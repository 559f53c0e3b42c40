# For gdb, on a guest that makes one request with `indirect=off`: what the three areas of the queue
# hold when the driver is about to write to QueueNotify, and when the interrupt has come.

set width 0
set print asm-demangle on
target remote gdb.sock

define areas
  printf "Descriptor Area at %#x\n", $table
  set $i = 0
  while $i < 3
    set $d = $table + 16 * $i
    set $addr = *($d as *const u64)
    set $len = *(($d + 8) as *const u32)
    set $flags = *(($d + 12) as *const u16)
    set $next = *(($d + 14) as *const u16)
    printf "  %d: addr %#x, len %d, flags %d, next %d\n", $i, $addr, $len, $flags, $next
    set $i = $i + 1
  end
  set $flags = (*$driver).flags
  set $idx = (*$driver).idx
  set $head = (*$driver).ring[0]
  printf "Driver Area at %#x\n", $driver
  printf "  flags %d, idx %d, ring[0] %d\n", $flags, $idx, $head
  set $flags = (*$device).flags
  set $idx = (*$device).idx
  set $used = (*$device).ring[0]
  printf "Device Area at %#x\n", $device
  printf "  flags %d, idx %d, ring[0] id %d, len %d\n", $flags, $idx, $used.id, $used.len
  set $status = *($addr as *const u8)
  printf "Status byte at %#x: %#x\n", $addr, $status
end

break guest::virtio::transport::Transport::notify<guest::machine::device::Device>
continue
frame function guest::virtio::block::Block::notify
set $table = self.requests.queue.descriptor_area.start
set $driver = self.requests.queue.driver_area.start as *const guest::virtio::areas::DriverArea
set $device = self.requests.queue.device_area.start as *const guest::virtio::areas::DeviceArea
areas

delete
break guest::machine::device::interrupt
continue
areas
