"""Access to the machine: files and buckets, devices and processes, memory, compiled programs."""
