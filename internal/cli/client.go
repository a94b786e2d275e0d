package cli

const defaultGateway = "http://127.0.0.1:8422"
