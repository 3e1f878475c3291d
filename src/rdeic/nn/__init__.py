"""The networks: autoencoder, transforms, codebook, context model, noise estimator, control network."""
