"""What ties jobtastic_ext to other people's tools; each module needs an extra of its name."""
