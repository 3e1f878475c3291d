"""Codecs of all kinds behind one interface (`types.Codec`); `catalogue.create` makes them from their names."""
