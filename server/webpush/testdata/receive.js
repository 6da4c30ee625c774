// Starts the push service of the npm package web-push-testing on a free port of the
// loopback and prints the port. It listens on all addresses otherwise. It ends when
// its standard input does.

const http = require('node:http');
const Server = require('web-push-testing/src/server.js');
const {PushApiModel} = require('web-push-testing/src/PushApiModel.js');

const server = new Server(new PushApiModel(), 0);
server._app.listen = (_, ready) => {
	const listener = http.createServer(server._app).listen(0, '127.0.0.1', () => {
		console.log(listener.address().port);
	});
	return listener;
};
server.startServer();
process.stdin.resume().on('end', () => process.exit(0));
