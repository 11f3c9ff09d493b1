-- Shows conec's datagrams in Wireshark (docs/protocol.md): QUIC, also inside of
-- relayed and direct frames, and the frames themselves.
--
--   wireshark -X lua_script:conec.lua packets/all.pcapng

local frames = {
	[32] = "relayed", [33] = "direct", [34] = "bind", [35] = "bound", [36] = "probe",
	[40] = "relayed, later epoch", [41] = "direct, later epoch",
	[48] = "relayed, later epoch", [49] = "direct, later epoch",
}
local carries = {[32] = true, [33] = true, [40] = true, [41] = true, [48] = true, [49] = true} -- a QUIC packet
local header = 5 -- bytes in front of a QUIC packet

local conec = Proto("conec", "conec datagram")
local kind = ProtoField.uint8("conec.frame", "Frame", base.DEC, frames)
local number = ProtoField.uint32("conec.number", "Route or tag", base.HEX)
conec.fields = {kind, number}

local quic = Dissector.get("quic")

function conec.dissector(data, packet, tree)
	if data:len() == 0 then
		return
	end
	local first = data(0, 1):uint()
	if first >= 64 then
		quic:call(data, packet, tree)
		return
	end
	packet.cols.protocol = "conec"
	packet.cols.info = frames[first] or "unknown frame"
	local branch = tree:add(conec, data(0, math.min(header, data:len())))
	branch:add(kind, data(0, 1))
	if carries[first] and data:len() > header then
		branch:add(number, data(1, 4))
		quic:call(data(header):tvb(), packet, tree)
		packet.cols.info:prepend(frames[first] .. ": ")
	end
end

-- Port 1719 is H.225's (IANA), and the others are anything's.
DissectorTable.get("udp.port"):add("1-65535", conec)
