"""Patient-level tables: schema, import, validation, response, toxicity, liver function."""
