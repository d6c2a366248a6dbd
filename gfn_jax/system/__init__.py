"""The machine: files and buckets, devices and processes, memory, compiled programs."""
