"""Parts of bench_ui: the two servers, and the browser that looks at them."""
