#!/bin/sh
# The guest's side of the bench of hot-plug: the agent, which only our machine asks, and who tells of disks.
bulkhead-agent >/dev/null 2>&1 &
exec uevents
