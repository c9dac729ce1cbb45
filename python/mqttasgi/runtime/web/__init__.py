"""HTTP and WebSockets of the same application, served by uvicorn; imported only with the option `http`."""
