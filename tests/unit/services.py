"""Services behind `apprise:`, each as a URL of the form that its documentation gives."""

SMS = (
    "freemobile://12345678@secret",
    "octopush://user@example.com/secret/+33600000000",
    "sfr://user:secret@space/0600000000",
    "twilio://AC735c307c62944b5ae2ff0e4b3eb8bb11:9ff0e4b3eb8bb11ff0e4b3eb8bb11ab1"
    "@33600000000/33600000001",
    "vonage://AAAAAAAA:bbbbbbbbbbbbbbbb@33600000000/33600000001",
    "bulksms://user:secret@33600000000",
    "seven://secret/33600000000",
    "smseagle://secret@127.0.0.1/33600000000",
    "httpsms://secret@33600000000/33600000001",
)
OTHERS = (
    "brevo://xkeysib0123456789abcdef:monitor@example.com/marie@example.com",
    "ntfys://secret@ntfy.example.com/topic",
    "signal://127.0.0.1/33600000000/33600000001",
    "whatsapp://secret@123456/33600000000",
    "tgram://123456789:abcdefg_hijklmnop/12315544/",
    "discord://123456/secret",
    "matrixs://user:secret@matrix.example.com/#room",
    "threema://*GATEWAY@secret/user",
    "gotifys://gotify.example.com/secret",
    "pover://user@token",
)
