"""The signaling shell: web application, WebSocket, appointment store and metrics."""
