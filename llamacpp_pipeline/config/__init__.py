"""1. What was asked: YAML to PipelineConfig."""
