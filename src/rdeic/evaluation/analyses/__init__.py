"""The paper's analyses of a model, on pictures of one's own: what lies behind its Figs. 7 to 12, Tables I and III."""
