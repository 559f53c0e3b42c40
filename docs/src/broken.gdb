# For gdb, attached to a guest that waits with `run=broken bug=N`: stops it before the first request of
# the driver, and again, after `continue`, where the workload has seen that something is wrong. Says
# what `queue`, `descriptors`, `avail` and `used` are. See `broken.md`.

set width 0
set print asm-demangle on
tbreak guest::workloads::broken::driver::Driver::prepare
continue
frame function guest::workloads::broken::run

set $queue = &driver.device.queue
set $descriptors = $queue.desc.start as *const guest::virtio::areas::DescriptorArea
set $avail = $queue.driver.start as *const guest::virtio::areas::DriverArea
set $used = $queue.device.start as *const guest::virtio::areas::DeviceArea

break guest::workloads::broken::failure
commands
  silent
  frame function guest::workloads::broken::run
end
break guest::workloads::broken::compare
commands
  silent
  frame function guest::workloads::broken::run
end

define queue
  printf "size %d, avail_idx %d, used_seen %d\n", $queue.size, $queue.avail_idx, $queue.used_seen
end
document queue
What the driver itself remembers of the queue.
end

define descriptors
  set $i = 0
  while $i < 12
    set $d = $descriptors.table[$i]
    set $flags = ($d.flags.0).0
    if $d.addr != 0
      printf "%2d: addr %#x, len %d, flags %d, next %d\n", $i, $d.addr, $d.len, $flags, $d.next
    end
    set $i = $i + 1
  end
end
document descriptors
The descriptors that have been written: three for each of the four slots.
end

define avail
  printf "flags %d, idx %d, ring", $avail.flags, $avail.idx
  set $i = 0
  while $i < 16
    printf " %d", $avail.ring[$i]
    set $i = $i + 1
  end
  printf "\n"
end
document avail
The available ring.
end

define used
  printf "flags %d, idx %d, ring", $used.flags, $used.idx
  set $i = 0
  while $i < 16
    set $element = $used.ring[$i]
    printf " %d/%d", $element.id, $element.len
    set $i = $i + 1
  end
  printf "\n"
end
document used
The used ring: each element as id/len.
end
