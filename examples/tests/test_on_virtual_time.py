"""What takes hours takes no time: a broker on a virtual clock."""

from mqttd.wire.packets import Publish, Will


def test_a_session_waits_for_a_day(mqttd_virtual) -> None:
    sensor = mqttd_virtual.connect("sensor", session_expiry_interval=86_400)
    sensor.subscribe("commands/sensor", qos=1)
    sensor.drop()
    mqttd_virtual.publish("commands/sensor", b"wake up", 1)

    mqttd_virtual.advance(86_000)
    sensor = mqttd_virtual.connect("sensor", clean_start=False)
    assert sensor.connack.session_present
    sensor.expect(Publish, payload=b"wake up")


def test_a_will_waits_an_hour(mqttd_virtual) -> None:
    recorder = mqttd_virtual.record()
    will = Will("sensor/gone", b"", properties={"will_delay_interval": 3600})
    sensor = mqttd_virtual.connect("sensor", session_expiry_interval=7200, will=will)
    sensor.drop()
    mqttd_virtual.advance(3590)
    recorder.expect_none("sensor/gone")
    recorder.wait_for("sensor/gone", timeout=20)


def test_a_silent_client_is_cut_after_its_keep_alive(mqttd_virtual) -> None:
    client = mqttd_virtual.connect("silent", keep_alive=600)
    mqttd_virtual.advance(890)
    assert not client.closed
    mqttd_virtual.advance(20)
    assert client.closed
