"""What a host is and can do: its facts, the encoders proved on it, the limits it can enforce."""
