"""The complete system (`model`), y to bits and back (`latent_codec`), and large pictures in parts."""
