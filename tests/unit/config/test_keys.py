from config.keys import MAX_SHOWN_CHARACTERS, allowed, default_text, dotted, field_at, is_secret, is_text, leaves, show


def described(*path: str) -> tuple[str, str]:
    field = field_at(path)
    assert field is not None
    return allowed(field), default_text(field)


def test_a_path_is_written_with_dots_and_indexes() -> None:
    assert dotted(("relay", "udp_ports", 0)) == "relay.udp_ports[0]"


def test_a_strange_key_is_quoted_so_that_a_mistake_stays_one_line() -> None:
    assert dotted(("relay", "a\nb")) == 'relay."a\\nb"'


def test_a_value_is_cut_short() -> None:
    assert len(show("x" * 1000)) == MAX_SHOWN_CHARACTERS


def test_a_container_is_never_shown() -> None:
    assert show({"password": "geheim"}) == "a mapping"
    assert show(["geheim"]) == "a list"


def test_a_range_and_a_choice_are_told_in_words() -> None:
    assert described("admin", "port") == ("1 to 65535", "9641")
    assert described("relay", "udp_ports") == ("1 to 65535", "[3478, 3479]")
    assert described("log", "format") == ("console or json", '"console"')
    assert described("services") == ("list of relay, signaling and sfu", '["relay", "signaling"]')


def test_passwords_in_a_mapping_are_secret_too() -> None:
    secret = {".".join(path) for path, field in leaves() if is_secret(field)}
    own = {"relay.users", "relay.secrets", "relay.realms"}
    assert secret == {"database_url", "signaling.redis_url", "secrets.turn_secret", "secrets.locator_key", *own}


def test_a_list_of_texts_is_not_a_text() -> None:
    texts = {".".join(path) for path, field in leaves() if is_text(field)}
    assert {"relay.realm", "log.level", "secrets.turn_secret"} <= texts
    assert "relay.listen_addresses" not in texts


def test_a_path_out_of_the_schema_has_no_field() -> None:
    assert field_at(("relay", "relam")) is None
