"""What a protocol can say (schema), and the built-in protocols, one TOML file each."""
