"""What `rdeic bench` measures: times by stage (Tables I and III), costs by size, for any model and any pictures."""
