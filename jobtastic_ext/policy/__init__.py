"""The policy file: from YAML to frozen data."""
