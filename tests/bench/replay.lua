-- Sends requests prepared by tests/bench/wrk.py (which describes the file) one after the other, over
-- and over, and prints what was measured as one line of JSON after a marker.

local heads, endings, shared, count, at = {}, {}, "", 0, 0
local threads = {}

function setup(thread)
  threads[#threads + 1] = thread
end

function init(args)
  local file = assert(io.open(args[1], "rb"))
  local first = file:read("*l")
  local requests, shared_length = first:match("^(%d+) (%d+)$")
  count = tonumber(requests)
  shared = file:read(tonumber(shared_length)) or ""
  for number = 1, count do
    local head_length, ending_length = file:read("*l"):match("^(%d+) (%d+)$")
    heads[number] = file:read(tonumber(head_length))
    endings[number] = ending_length ~= "0" and file:read(tonumber(ending_length)) or false
  end
  file:close()
  at = count - 1 -- wrk asks for one request that it only looks at: let that be the last one
  prepared_s = os.clock() -- global: `done` asks for it, from another state
end

function request()
  at = at % count + 1
  local ending = endings[at]
  if ending then
    return heads[at] .. shared .. ending
  end
  return heads[at]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests": %d, "microseconds": %d, "bytes": %d, "p50_us": %d, "p99_us": %d, ' ..
    '"prepared_s": %.3f, "status": %d, "connect": %d, "read": %d, "write": %d, "timeout": %d}\n',
    summary.requests, summary.duration, summary.bytes,
    latency:percentile(50), latency:percentile(99), threads[1]:get("prepared_s"),
    errors.status, errors.connect, errors.read, errors.write, errors.timeout))
end
