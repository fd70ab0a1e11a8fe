"""What a network lets through to a redconnect service, or to any TURN server: measured, judged, reported."""
