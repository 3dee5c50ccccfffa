"""The tables and figures of the paper, made of one's own data (Bendidi et al., ICML 2025)."""
