"""The desk: what a person or a monitoring system looks at. Charts and the report (the page draws with them), metrics."""
